"""From examples to batches: which questions, in which order, and their texts as padded tensors.

All texts of a batch, queries and documents alike, are encoded in one go. They are sorted by length and cut into a few
parts of equal numbers of texts, each padded to its own longest, so that a short item does not pay for a long one.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from companions.lamp.encoder import pad
from companions.lamp.ropg.examples import Example, Examples
from companions.lamp.ropg.settings import FeedbackTrainingSettings
from dataset.loading import load_batches
from dataset.sampler import BatchSampler
from utils.distributed import DistributedContext
from utils.errors import UserError

PARTS = 8  # as many in every batch: at ZeRO stage 3 all ranks run the encoder equally often


class Item(NamedTuple):
    """An example as it comes in one pass over the data."""

    example: Example
    draw: float
    """a random number from [0, 1), of its own in every pass, whatever batch, rank or process it comes in"""


@dataclass(frozen=True)
class RetrievalBatch:
    """B questions with at most C documents each, N texts in all."""

    texts: tuple[tuple[Tensor, Tensor], ...]
    """ids and mask [n, S] of each part; together at least N texts"""
    queries: Tensor
    """[B] which text is the query"""
    documents: Tensor
    """[C, B] which text is the document; any where there is none"""
    mask: Tensor
    """[C, B] bool, where there is one"""
    utilities: Tensor
    """[C, B] float32; 0 where there is none"""
    draws: Tensor
    """[B] float64 in [0, 1)"""
    indices: Tensor
    """[B] places in the file"""

    @property
    def num_examples(self) -> int:
        """B."""
        return len(self.indices)

    def to(self, device: torch.device) -> "RetrievalBatch":
        """The same batch on another device."""
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        texts = tuple((ids.to(device), mask.to(device)) for ids, mask in self.texts)
        return RetrievalBatch(texts=texts, **tensors)


class Items(Dataset[Item]):
    """Examples by number; example i of pass p (from 0) has the number p * n + i.

    Args:
        examples: n of them.
        seed: of the draws.
    """

    def __init__(self, examples: Examples, seed: int) -> None:
        self.examples, self.seed = examples, seed

    def __len__(self) -> int:
        return len(self.examples)

    def tokens(self) -> NDArray[np.int64]:
        """Tokens of each question's texts in all [n]."""
        return self.examples.tokens()

    def __getitem__(self, number: int) -> Item:
        draw = np.random.default_rng([self.seed, number]).random()
        return Item(self.examples[number % len(self)], draw)


class Rounds(Sampler[list[int]]):
    """Passes over the data, one after another, cut into rounds of as many batches each; the trainer's epochs.

    Args:
        passes: the batches of a pass, in an order of its own.
        batches: of a round; None: a round is a pass.
        num_examples: n, see `Items`.
    """

    last_is_repeat = False  # no round is a validation

    def __init__(self, passes: BatchSampler, batches: int | None, num_examples: int) -> None:
        self.passes, self.batches, self.num_examples = passes, batches, num_examples
        self.batches_of_pass = len(passes)
        self.set_epoch(0)

    def set_epoch(self, epoch: int, done: Sequence[Sequence[int]] = ()) -> None:
        """Choose the round, counted from 0, without the batches that are done.

        A round that is a pass has every question once, whatever numbers of ranks have had parts of it. In rounds of
        another length the order is throughout that of this number of ranks.
        """
        if self.batches is None:
            self.done = done
            self.passes.set_epoch(epoch, done)
            self.places = [(epoch, place) for place in range(len(self.passes))]
        else:
            self.done = ()
            first = epoch * self.batches + sum(batches for _, batches in done)
            numbers = range(first, (epoch + 1) * self.batches)
            self.places = [divmod(number, self.batches_of_pass) for number in numbers]

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[list[int]]:
        current = None
        for number, place in self.places:
            if number != current:
                self.passes.set_epoch(number, self.done)
                current = number
            yield [number * self.num_examples + index for index in self.passes.batches[place]]


class Collator:
    """Makes a batch of items.

    Args:
        num_candidates: C, however few documents the batch has: figures are summed by place.
        pad_id: of the encoder's tokenizer; None where it has none.
    """

    def __init__(self, num_candidates: int, pad_id: int | None) -> None:
        self.num_candidates, self.pad_id = num_candidates, pad_id

    def __call__(self, items: Sequence[Item]) -> RetrievalBatch:
        """The batch of these items."""
        examples = [item.example for item in items]
        texts: list[Sequence[int]] = []
        queries = torch.zeros(len(items), dtype=torch.long)
        documents = torch.zeros(self.num_candidates, len(items), dtype=torch.long)
        mask = torch.zeros(documents.shape, dtype=torch.bool)
        utilities = torch.zeros(documents.shape)
        for column, example in enumerate(examples):
            count = len(example.documents)
            queries[column] = len(texts)
            documents[:count, column] = torch.arange(len(texts) + 1, len(texts) + 1 + count)
            mask[:count, column] = True
            utilities[:count, column] = torch.from_numpy(example.utilities)
            texts += [example.query.tolist(), *(document.tolist() for document in example.documents)]
        parts, place = in_parts(texts, self.pad_id)
        return RetrievalBatch(
            texts=parts,
            queries=place[queries],
            documents=place[documents],
            mask=mask,
            utilities=utilities,
            draws=torch.tensor([item.draw for item in items], dtype=torch.float64),
            indices=torch.tensor([example.number for example in examples]),
        )


def in_parts(
    texts: Sequence[Sequence[int]], pad_id: int | None
) -> tuple[tuple[tuple[Tensor, Tensor], ...], Tensor]:
    """Ids and mask [n, S] of each part of N texts, and which row of all parts together each text has [N]."""
    order = sorted(range(len(texts)), key=lambda text: len(texts[text]))
    place = torch.empty(len(texts), dtype=torch.long)
    place[torch.tensor(order)] = torch.arange(len(texts))
    # fewer texts than parts: some come twice, and the second is not used
    encoded = np.array_split(np.resize(order, max(len(order), PARTS)), PARTS)
    return tuple(pad([texts[text] for text in part], pad_id) for part in encoded), place


class Questions(Protocol):
    """Data of n questions, of which number i of pass p (from 0) is p * n + i."""

    def __len__(self) -> int:
        """n."""

    def __getitem__(self, number: int) -> Any:
        """What `collate` makes batches of."""

    def tokens(self) -> NDArray[np.int64]:
        """Tokens of each question [n], by which batches are made."""


def make_loaders(
    train: Questions,
    valid: Questions,
    collate: Callable[[Any], Any],
    training: FeedbackTrainingSettings,
    distributed: DistributedContext,
    path: str | None,
) -> tuple[DataLoader[Any], DataLoader[Any], list[str]]:
    """This rank's batches, for training in rounds and for validation, and what is to be said about the rounds.

    Args:
        train: the training questions.
        valid: the validation questions.
        collate: makes a batch.
        training: sizes, seed and rounds.
        distributed: the processes.
        path: of the training questions, for messages.

    Raises:
        UserError: there are fewer training questions than ranks.
    """
    if len(train) < distributed.size:
        raise UserError(f"{path}: {len(train)} question(s) are fewer than the {distributed.size} ranks")
    sampler = partial(
        BatchSampler,
        batch_size=training.batch_size,
        rank=distributed.rank,
        world_size=distributed.size,
        seed=training.seed,
    )
    passes = sampler(train.tokens().tolist(), range(len(train)))
    rounds = Rounds(passes, batches_of_round(training), len(train))
    in_order = sampler(valid.tokens().tolist(), range(len(valid)), shuffle=False)
    steps = math.ceil(len(rounds) / training.accumulation_steps) * training.rounds
    notes = []
    if training.total_steps not in (None, steps):
        notes.append(f"{steps} steps, not {training.total_steps}: {training.rounds} rounds of equal length")
    workers = training.num_workers
    return (
        load_batches(train, collate, workers, rounds),
        load_batches(valid, collate, workers, in_order),
        notes,
    )


def batches_of_round(training: FeedbackTrainingSettings) -> int | None:
    """Batches of a rank between two validations; None: a pass over the data."""
    if training.total_steps is None:
        return None
    return math.ceil(training.total_steps / training.rounds) * int(training.accumulation_steps)
