"""What makes an LM decode faster on a CPU: linear layers by oneDNN, and attention of single tokens as two products.

For attention PyTorch has one kernel for all shapes; where a row has one query, the two products that it consists of are
faster (docs/speed.md).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from models.onednn import use_onednn

_ATTENTION = "sdpa"  # the library's name of the attention that is replaced
_ROWS = 8  # whose keys and values are read from the first one on that any of them sees


@contextmanager
def fast_on_cpu(lm: nn.Module) -> Iterator[None]:
    """Within it linear layers compute by oneDNN, and attention is `attention`.

    Layers of other kinds, and families with an attention of their own, stay as they are.
    """
    layers = use_onednn(lm)
    ALL_ATTENTION_FUNCTIONS[_ATTENTION] = attention  # over the library's own, until it is deleted
    try:
        yield
    finally:
        del ALL_ATTENTION_FUNCTIONS[_ATTENTION]
        for layer in layers:
            layer.__class__ = nn.Linear


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """The library's attention, otherwise computed where there is one query per row on a CPU.

    Args:
        module: the LM's attention layer.
        query: [B, heads, Q, size].
        key: [B, key heads, L, size].
        value: [B, key heads, L, size].
        attention_mask: [B or 1, heads or 1, Q, L], bool or added to the products; None: everything is seen.
        dropout: none while nothing is trained.
        scaling: of the products.
        more: what some families ask for; all that changes the arithmetic is left to the library.

    Returns:
        [B, Q, heads, size] and None.
    """
    others = any(more.get(name) is not None for name in ("position_bias", "softcap", "cache", "s_aux"))
    if query.device.type != "cpu" or query.shape[2] != 1 or dropout or others:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **more
        )
    rows, heads, _, size = query.shape
    # [B, key heads, size, heads per key head]
    queries = query.reshape(rows, key.shape[1], -1, size).transpose(2, 3)
    factor = size**-0.5 if scaling is None else scaling
    mask = None if attention_mask is None else _added(attention_mask).expand(rows, -1, -1, -1)
    output = query.new_empty(rows, key.shape[1], queries.shape[3], value.shape[3])
    for start, end, first in _groups(mask, rows):
        # keys times queries: twice as fast as the other way round
        scores = (key[start:end, :, first:] @ queries[start:end]).transpose(2, 3).float() * factor
        if mask is not None:
            seen = mask[start:end, :, :, first:]  # of all heads alike, or of each
            scores += seen if seen.shape[1] == 1 else seen.reshape(scores.shape)
        output[start:end] = scores.softmax(dim=3).to(value.dtype) @ value[start:end, :, first:]
    return output.reshape(rows, 1, heads, value.shape[3]), None


def _added(mask: Tensor) -> Tensor:
    """A mask [*, L] in float32, to be added to products."""
    if mask.dtype != torch.bool:
        return mask.float()
    return torch.zeros(mask.shape).masked_fill_(~mask, torch.finfo(torch.float32).min)


def _groups(mask: Tensor | None, rows: int) -> Iterator[tuple[int, int, int]]:
    """Start and end of neighbouring rows, and the first position that any of them sees.

    Texts stand at the end of the cache, so that a group of short ones has nothing to read at its beginning.
    """
    if mask is None:
        yield 0, rows, 0
        return
    seen = (mask > torch.finfo(torch.bfloat16).min / 2).any(dim=1).any(dim=1)  # [B, L]
    firsts = seen.byte().argmax(dim=1).tolist()
    for start in range(0, rows, _ROWS):
        end = min(rows, start + _ROWS)
        yield start, end, min(firsts[start:end])
