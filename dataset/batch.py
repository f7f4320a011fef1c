"""The contract between dataset/ and models/: rows (texts for the LM) and examples (responses) counted apart.

R rows of at most S tokens carry B examples with N target tokens in all. With `rows: example` R equals B;
with `rows: dialogue` an example whose text is a prefix of another's has no row of its own: the LM is causal,
so the longer row gives its target logits too.
"""

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from dataset.encoding import EncodedExample
from dataset.similarity import PairLabels


@dataclass(frozen=True, slots=True)
class Query:
    """What prompts are chosen by: of each example."""

    ids: Tensor  # [B, Q] int64
    mask: Tensor  # [B, Q] bool: True where the token counts
    last_turn: Tensor  # [B, Q] bool: True where it is of the last turn
    turns: Tensor  # [B] int64: which of the speaker's responses in the dialogue, counted from 0

    def pin_memory(self) -> "Query":
        """For the loader of a GPU."""
        return _mapped(self, Tensor.pin_memory)


@dataclass(frozen=True, slots=True)
class Batch:
    """One training batch. Right-padded and causal, so real tokens never see padding and need no mask."""

    input_ids: Tensor  # [R, S] int64
    target_rows: Tensor  # [N] int64: the row that a target token is predicted in
    target_positions: Tensor  # [N] int64: the position in the row whose hidden state predicts it
    target_ids: Tensor  # [N] int64: the token to predict; eos where the row continues with the next turn
    target_examples: Tensor  # [N] int64, ascending: the example that it belongs to
    query: Query
    # [P] float32: +1 or -1 per pair i < j of examples, row by row; empty when not asked for
    pair_labels: Tensor
    indices: Tensor  # [B] int64: places of the examples in their file

    @property
    def num_examples(self) -> int:
        """B."""
        return self.indices.shape[0]

    @property
    def turns(self) -> Tensor:
        """[B] int64, those of the query."""
        return self.query.turns

    @property
    def example_of_row(self) -> Tensor:
        """[R] int64: an example of each row; with `rows: example` the only one."""
        # every row has target tokens
        rows = self.target_rows.new_zeros(self.input_ids.shape[0])
        return rows.scatter(0, self.target_rows, self.target_examples)

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return _mapped(self, lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """For the loader of a GPU: copies from pinned memory do not wait."""
        return _mapped(self, Tensor.pin_memory)


@dataclass(frozen=True, slots=True)
class InferenceBatch:
    """One decoding batch, left-padded."""

    input_ids: Tensor  # [B, S] int64
    attention_mask: Tensor  # [B, S] int64
    query: Query
    indices: Tensor  # [B] int64

    def to(self, device: torch.device | str) -> "InferenceBatch":
        """The same batch on another device."""
        return _mapped(self, lambda tensor: tensor.to(device, non_blocking=True))


_AnyBatch = TypeVar("_AnyBatch", Batch, InferenceBatch, Query)


def _mapped(item: _AnyBatch, function: Callable[[Tensor], Tensor]) -> _AnyBatch:
    """The same batch with `function` applied to every tensor."""
    mapped: dict[str, Any] = {}
    for field in dataclasses.fields(item):
        value = getattr(item, field.name)
        mapped[field.name] = function(value) if isinstance(value, Tensor) else _mapped(value, function)
    return type(item)(**mapped)


def assign_rows(texts: Sequence[np.ndarray], groups: Sequence[Hashable]) -> tuple[list[int], list[int]]:
    """Which row each text is read from, and the text that each row holds.

    Args:
        texts: token ids of B texts.
        groups: B labels; a text may use the row of a longer one of its group that begins with the same tokens.

    Returns:
        row of each text [B], text of each row [R], longest first.
    """
    row_of_text = [0] * len(texts)
    text_of_row: list[int] = []
    for number in sorted(range(len(texts)), key=lambda index: -len(texts[index])):
        text = texts[number]
        shared = (
            row
            for row, longer in enumerate(text_of_row)
            if groups[longer] == groups[number] and np.array_equal(texts[longer][: len(text)], text)
        )
        row = next(shared, len(text_of_row))
        if row == len(text_of_row):
            text_of_row.append(number)
        row_of_text[number] = row
    return row_of_text, text_of_row


def turns_of(examples: Sequence[EncodedExample]) -> Tensor:
    """[B] int64: which of the speaker's responses in the dialogue each example is, counted from 0."""
    return torch.tensor([example.turn for example in examples])


def pad(
    sequences: Sequence[np.ndarray | Sequence[int]], fill: int, left: bool = False, width: int = 0
) -> tuple[Tensor, Tensor]:
    """Stack ids into [B, width] int64 and a bool mask of the real tokens."""
    width = max([width, *(len(sequence) for sequence in sequences)])
    ids = np.full((len(sequences), width), fill, dtype=np.int64)
    mask = np.zeros((len(sequences), width), dtype=bool)
    for row, sequence in enumerate(sequences):
        place = slice(width - len(sequence), width) if left else slice(0, len(sequence))
        ids[row, place] = sequence
        mask[row, place] = True
    return torch.from_numpy(ids), torch.from_numpy(mask)


@dataclass(frozen=True, slots=True)
class Collator:
    """Makes batches of encoded examples; picklable, so that worker processes can use it.

    Args:
        pad_id: fills the rows.
        share_rows: `rows: dialogue`.
        pair_labels: gives +1 or -1 per pair i < j of personas (dataset/similarity.py); None when no loss asks for it.
    """

    reads_padding = False
    """whether scores depend on the padding, and so on which examples share a batch"""

    pad_id: int
    share_rows: bool = False
    pair_labels: PairLabels | None = None

    def train(self, examples: Sequence[EncodedExample], groups: Sequence[Hashable] | None = None) -> Batch:
        """A training batch of examples that were encoded with their responses.

        Args:
            examples: B examples.
            groups: who may share a row, see `assign_rows`; by default the examples of a dialogue with
                `share_rows`, and nobody without.
        """
        if groups is None:
            groups = [example.dialogue for example in examples] if self.share_rows else range(len(examples))
        # eos predicts nothing, and a longer text does not have it there
        texts = [example.ids[:-1] for example in examples]
        row_of_text, text_of_row = assign_rows(texts, groups)
        input_ids, _ = pad([texts[number] for number in text_of_row], self.pad_id)
        rows, positions, tokens, example_of_token = [], [], [], []
        for number, example in enumerate(examples):
            places = np.concatenate([np.arange(*span) for span in example.targets])
            places = self._counted(example.ids, places)
            positions.append(places - 1)
            tokens.append(example.ids[places].astype(np.int64))
            rows.append(np.full(len(places), row_of_text[number]))
            example_of_token.append(np.full(len(places), number))
        personas = [example.persona for example in examples]
        return Batch(
            input_ids=input_ids,
            target_rows=torch.from_numpy(np.concatenate(rows)),
            target_positions=torch.from_numpy(np.concatenate(positions)),
            target_ids=torch.from_numpy(np.concatenate(tokens)),
            target_examples=torch.from_numpy(np.concatenate(example_of_token)),
            query=self._query(examples, training=True),
            pair_labels=torch.tensor(
                self.pair_labels(personas) if self.pair_labels else [], dtype=torch.float32
            ),
            indices=torch.tensor([example.index for example in examples]),
        )

    def inference(self, examples: Sequence[EncodedExample]) -> InferenceBatch:
        """A decoding batch of examples that were encoded without their responses."""
        input_ids, mask = pad([example.ids for example in examples], self.pad_id, left=True)
        return InferenceBatch(
            input_ids=input_ids,
            attention_mask=mask.long(),
            query=self._query(examples, training=False),
            indices=torch.tensor([example.index for example in examples]),
        )

    def _query(self, examples: Sequence[EncodedExample], training: bool) -> Query:
        """What the retriever reads: the text up to the end of the last turn."""
        ids, mask = pad([example.ids[: example.query_end] for example in examples], self.pad_id)
        starts = torch.tensor([example.last_turn for example in examples])
        return Query(ids, mask, mask & (torch.arange(ids.shape[1]) >= starts[:, None]), turns_of(examples))

    def _counted(self, ids: np.ndarray, places: np.ndarray) -> np.ndarray:
        """The target positions of a text that have a loss: all of them."""
        return places
