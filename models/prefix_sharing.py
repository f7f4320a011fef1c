"""Decoding examples of one dialogue: texts that begin alike, behind the same prompt, are read once.

The examples of a dialogue are prefixes of one another and the LM is causal, so the keys and values of the longest
text serve the shorter ones too; what lies behind a shorter text is masked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Cache, StaticCache

from dataset.batch import InferenceBatch, assign_rows
from models.language_model import LanguageModel

_ROWS = 4  # rows that are read together


@dataclass(frozen=True, slots=True)
class SharedStart:
    """What `generate` needs to go on behind texts that were read together."""

    embeddings: Tensor  # [B, 1, D]: each text's last token, which is read again to begin with
    mask: Tensor  # [B, L + 1] int64: the cached positions that belong to the text, and the last token
    cache: Cache  # keys and values of L positions for B rows


def read_shared(
    lm: LanguageModel,
    batch: InferenceBatch,
    prompts: Tensor | None,
    choice: Tensor | None,
    new_tokens: int,
) -> SharedStart:
    """Read each distinct text once, into a cache with room for what will be generated.

    Args:
        lm: the LM.
        batch: left-padded texts.
        prompts: [B, V, D] the soft prompt of each example, or None.
        choice: [B] its index; None where all examples have the same prompt, or none.
        new_tokens: tokens that will be generated at most.
    """
    device, width = batch.input_ids.device, batch.input_ids.shape[1]
    lengths = batch.attention_mask.sum(dim=1)
    padded = batch.input_ids.cpu().numpy()
    texts = [ids[width - n :] for ids, n in zip(padded, lengths.tolist(), strict=True)]
    row_of, holders = assign_rows(texts, [0] * len(texts) if choice is None else choice.tolist())
    num_virtual = 0 if prompts is None else prompts.shape[1]
    length = num_virtual + max(len(text) for text in texts)  # L
    cache = StaticCache(config=lm.model.config, max_cache_len=length + 1 + new_tokens)
    parts = []
    for start in range(0, len(holders), _ROWS):  # longest first: each part is padded to its own longest only
        chosen = holders[start : start + _ROWS]
        rows = [torch.from_numpy(texts[holder]) for holder in chosen]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)  # padding is masked below
        embeddings = lm.embed(ids)
        if prompts is not None:
            embeddings = torch.cat([prompts[chosen].to(embeddings.dtype), embeddings], dim=1)
        parts.append(lm.read(embeddings))
    places = torch.tensor(row_of, device=device)
    for number in range(len(parts[0].layers)):
        keys = [part.layers[number].keys for part in parts]
        values = [part.layers[number].values for part in parts]
        cache.update(_stacked(keys, length)[places], _stacked(values, length)[places], number)
    known = num_virtual + lengths[:, None] - 1  # positions before each text's last token
    mask = torch.cat(
        [torch.arange(length, device=device) < known, torch.ones_like(known, dtype=torch.bool)], dim=1
    )
    return SharedStart(lm.embed(batch.input_ids[:, -1:]), mask.long(), cache)


def _stacked(parts: Sequence[Tensor], length: int) -> Tensor:
    """Keys or values [R, heads, L, size] of parts that are shorter than L."""
    return torch.cat([F.pad(part, (0, 0, 0, length - part.shape[2])) for part in parts])
