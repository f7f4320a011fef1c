"""Prefill: read the texts of a decoding batch into a cache, each distinct text once.

The examples of a dialogue are prefixes of one another and the LM is causal, so the keys and values of the longest
text serve the shorter ones with the same prompt too. So do those of the texts with their responses: what is replied to
is a prefix of them, and the pass that fills the cache gives the hidden states that the targets are scored with. A text
that is no prefix, as when it is cut otherwise than with its response, is read for itself.

In the cache of the batch every example's keys and values end at the same place, and the unused room lies before them.
So neighbouring cache slots are neighbouring positions, which LMs need that count slots (sliding windows, local
attention, some forms of ALiBi).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from dataset.batch import Batch, InferenceBatch, assign_rows
from models.conversation import ConversationModel
from models.lm.language_model import keys_and_values

# positions that are read together, at least one row: enough for products at full speed, and hardly any padding
_POSITIONS = {"cpu": 512}
_POSITIONS_ELSEWHERE = 4096


class PreallocatedLayer(DynamicLayer):
    """Keys and values of one layer, in memory that is allocated once; what is handed out is its used part.

    Args:
        keys: memory [B, heads, room, key size].
        values: memory [B, heads, room, value size].
        length: positions that are already written.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor, length: int) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.room = keys, values
        self._use(length)

    def _use(self, length: int) -> None:
        self.keys, self.values = (memory[:, :, :length] for memory in self.room)

    def update(  # noqa: D102 (the library's own)
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        for memory, states in zip(self.room, (key_states, value_states), strict=True):
            memory[:, :, start:end] = states
        self._use(end)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:  # noqa: D102 (the library's own)
        length = self.get_seq_length()
        keys, values = self.room
        self.room = keys.index_select(0, beam_idx), values.index_select(0, beam_idx)
        self._use(length)


@dataclass(frozen=True, slots=True)
class Targets:
    """The same examples with their responses, whose losses are wanted."""

    texts: Sequence[np.ndarray]  # B texts of token ids, without eos at their end
    batch: Batch  # gives positions in these texts and target tokens; its rows do not matter


@dataclass(frozen=True, slots=True)
class Prefill:
    """What `generate` needs to continue texts that were read together, and what was found on the way."""

    embeddings: Tensor  # [B, 1, D]: each text's last token, which is read again to begin with
    mask: Tensor  # [B, L + 1] int64: the cached positions that belong to the text, and the last token
    cache: Cache  # keys and values of L positions for B examples
    hidden: (
        Tensor | None
    )  # [N, H]: hidden states that predict the target tokens; None where none are asked for

    @property
    def length(self) -> int:
        """L, the cached positions of the longest example."""
        return self.mask.shape[1] - 1


@torch.no_grad()
def prefill(
    model: ConversationModel,
    batch: InferenceBatch,
    choice: Tensor | None,
    new_tokens: int,
    copies: int = 1,
    targets: Targets | None = None,
) -> Prefill:
    """Read each distinct text once, into a cache with room for what will be generated.

    Args:
        model: gives the LM and what stands before the texts.
        batch: left-padded texts of B examples.
        choice: [B] index of each example's soft prompt, or None where there is nothing to choose.
        new_tokens: tokens that will be generated at most.
        copies: entries of the cache per example, such as beams; the cache then has B * copies entries.
        targets: the examples with their responses, or None.
    """
    device, width = batch.input_ids.device, batch.input_ids.shape[1]
    padded = batch.input_ids.cpu().numpy()
    texts = [
        ids[width - n :] for ids, n in zip(padded, batch.attention_mask.sum(dim=1).tolist(), strict=True)
    ]
    count, virtual = len(texts), model.num_virtual_tokens
    with_targets = [*texts, *([] if targets is None else targets.texts)]
    labels = [0] * count if choice is None else choice.tolist()
    if model.reads_query:  # keys and values after two texts' prompts are never the same
        labels = list(range(count))
    row_of_text, text_of_row = assign_rows(with_targets, labels * (len(with_targets) // count))
    prompts = model.prompts_for(choice, count, batch.query)  # [B, V, D] or None
    length = virtual + max(len(text) for text in texts) - 1  # L, without the last token
    layers: list[PreallocatedLayer] = []
    hidden: Tensor | None = None
    for start, end in _parts([virtual + len(with_targets[number]) for number in text_of_row], device):
        part = text_of_row[start:end]
        rows = [torch.tensor(with_targets[number], dtype=torch.long) for number in part]
        states, read = _read_rows(model, rows, prompts, [number % count for number in part], device)
        if read.get_seq_length() != virtual + len(rows[0]):
            raise RuntimeError(
                f"the LM cached {read.get_seq_length()} positions for a text of {len(rows[0])} tokens after "
                f"{virtual} virtual ones; this version of transformers counts otherwise"
            )
        if not layers:
            layers = _empty_layers(read, count * copies, length, new_tokens)
        for number, row in enumerate(row_of_text[:count]):
            if start <= row < end:
                entries = slice(number * copies, (number + 1) * copies)
                _copy(read, row - start, layers, entries, virtual + len(texts[number]) - 1)
        if targets is not None:
            if hidden is None:
                hidden = states.new_zeros(len(targets.batch.target_ids), states.shape[2])
            row_of_example = torch.tensor(row_of_text[count:], device=device)
            row_of_target = row_of_example[targets.batch.target_examples]  # [N]
            here = (start <= row_of_target) & (row_of_target < end)
            offset = states.shape[1] - len(rows[0])  # of the soft prompts, in the hidden states
            hidden[here] = states[row_of_target[here] - start, offset + targets.batch.target_positions[here]]
    counts = torch.tensor([virtual + len(text) for text in texts], device=device)[:, None]
    mask = torch.arange(length + 1, device=device) >= length + 1 - counts  # [B, L + 1]
    return Prefill(model.lm.embed(batch.input_ids[:, -1:]), mask.long(), Cache(layers=list(layers)), hidden)


def _parts(lengths: Sequence[int], device: torch.device) -> Iterator[tuple[int, int]]:
    """Which rows are read together, longest first, each part padded to its own longest: half-open ranges."""
    positions = _POSITIONS.get(device.type, _POSITIONS_ELSEWHERE)
    start = 0
    while start < len(lengths):
        end = min(len(lengths), start + max(1, positions // lengths[start]))
        yield start, end
        start = end


def _read_rows(
    model: ConversationModel,
    rows: Sequence[Tensor],
    prompts: Tensor | None,
    examples: Sequence[int],
    device: torch.device,
) -> tuple[Tensor, Cache]:
    """Hidden states, keys and values of some rows, each after its prompt.

    The LM is causal, so that padding on the right is not seen.
    """
    ids = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True).to(device)
    embeddings = model.lm.embed(ids)  # [rows, S, D]
    if prompts is not None:
        embeddings = torch.cat([prompts[list(examples)].to(embeddings.dtype), embeddings], dim=1)
    return model.lm.read(embeddings, model.prefix_cache(len(rows)))


def _empty_layers(read: Cache, entries: int, length: int, new_tokens: int) -> list[PreallocatedLayer]:
    """Memory for L positions, the last token and what is generated, of the heads and sizes of a cache."""

    def memory(states: Tensor) -> Tensor:
        return states.new_zeros(entries, states.shape[1], length + 1 + new_tokens, states.shape[3])

    return [PreallocatedLayer(memory(keys), memory(values), length) for keys, values in keys_and_values(read)]


def _copy(read: Cache, row: int, layers: Sequence[PreallocatedLayer], entries: slice, count: int) -> None:
    """The first `count` positions of a row that was read, to the end of some entries' cached positions."""
    for (keys, values), target in zip(keys_and_values(read), layers, strict=True):
        start = target.get_seq_length() - count
        target.keys[entries, :, start:] = keys[row, :, :count]
        target.values[entries, :, start:] = values[row, :, :count]
