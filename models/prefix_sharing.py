"""Decoding examples of one dialogue: texts that begin alike, behind the same prompt, are read once.

The examples of a dialogue are prefixes of one another and the LM is causal, so the keys and values of the longest
text serve the shorter ones too; what lies behind a shorter text is masked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

from dataset.batch import InferenceBatch
from models.language_model import LanguageModel


@dataclass(frozen=True, slots=True)
class SharedStart:
    """What `generate` needs to go on behind texts that were read together."""

    embeddings: Tensor  # [B, 1, D]: each text's last token, which is read again to begin with
    mask: Tensor  # [B, L + 1] int64: the cached positions that belong to the text, and the last token
    cache: Cache  # keys and values of L positions for B rows


def shared_rows(texts: Sequence[Sequence[int]], choices: Sequence[int]) -> tuple[list[int], list[int]]:
    """Which row each text is read from, and the text that each row holds.

    Args:
        texts: B token lists.
        choices: prompt of each text; texts behind different prompts share nothing.

    Returns:
        row of each text [B], text of each row [R].
    """
    row_of, holders = [0] * len(texts), []
    for number in sorted(range(len(texts)), key=lambda index: -len(texts[index])):
        for row, holder in enumerate(holders):
            if choices[holder] == choices[number] and texts[holder][: len(texts[number])] == texts[number]:
                row_of[number] = row
                break
        else:
            row_of[number] = len(holders)
            holders.append(number)
    return row_of, holders


def read_shared(
    lm: LanguageModel, batch: InferenceBatch, prompts: Tensor, choice: Tensor
) -> SharedStart | None:
    """Read each distinct text once; None when no two examples share a text.

    Args:
        lm: the LM.
        batch: left-padded texts.
        prompts: [B, V, D] the soft prompt of each example.
        choice: [B] its index.
    """
    width = batch.input_ids.shape[1]
    lengths = batch.attention_mask.sum(dim=1)
    texts = [ids[width - n :] for ids, n in zip(batch.input_ids.tolist(), lengths.tolist(), strict=True)]
    row_of, holders = shared_rows(texts, choice.tolist())
    if len(holders) == len(texts):
        return None
    device = batch.input_ids.device
    longest = max(len(texts[holder]) for holder in holders)
    ids = torch.zeros(len(holders), longest, dtype=torch.long, device=device)  # padding is masked below
    for row, holder in enumerate(holders):
        ids[row, : len(texts[holder])] = torch.tensor(texts[holder], device=device)
    embeddings = lm.embed(ids)
    embeddings = torch.cat([prompts[holders].to(embeddings.dtype), embeddings], dim=1)  # [R, V + longest, D]
    cache = DynamicCache(config=lm.model.config)
    lm.hidden(embeddings, cache)
    cache.batch_select_indices(torch.tensor(row_of, device=device))
    known = prompts.shape[1] + lengths[:, None] - 1  # positions before the last token
    places = torch.arange(embeddings.shape[1], device=device)
    mask = torch.cat([places < known, torch.ones_like(known, dtype=torch.bool)], dim=1).long()
    return SharedStart(lm.embed(batch.input_ids[:, -1:]), mask, cache)
