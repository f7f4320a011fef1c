"""Attention of a training step on the CPU in half precision.

PyTorch's own kernel reaches a tenth of the rate of matrix products there. Plain products, a few heads at a time, are
three to four times as fast and need as little memory: the probabilities are computed again in the backward pass.
"""

import functools
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import AttentionInterface

_CHUNK_BYTES = 8 * 2**20  # of probabilities at a time: they stay near the cores


def use_cpu_attention() -> None:
    """Let LMs with transformers' `sdpa` attention, its default, compute as this module does where that is faster."""
    AttentionInterface.register("sdpa", attention)


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
    """What transformers asks of an attention; all but causal training steps in half precision on the CPU is its own.

    Args:
        module: a layer's attention.
        query: [R, heads, S, size].
        key: [R, heads of keys, S, size].
        value: the same.
        attention_mask: None: causal.
        dropout: of the probabilities.
        scaling: of the scores; None: one over the root of `size`.
        more: see transformers' `sdpa_attention_forward`.

    Returns:
        [R, S, heads, size], and no probabilities.
    """
    asked = {name for name, value in more.items() if value is not None and name != "is_causal"}
    causal = more.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    fits = (
        query.device.type == "cpu"
        and query.dtype in (torch.bfloat16, torch.float16)
        and torch.is_grad_enabled()
        and (query.requires_grad or key.requires_grad or value.requires_grad)
        and attention_mask is None
        and causal
        and not dropout
        and query.shape[2] == key.shape[2] > 1
        and not asked & {"position_bias", "cache", "softcap"}
    )
    if not fits:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **more)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    rows = [states.flatten(0, 1) for states in (query, key, value)]  # [R * heads, S, size]
    output = _CausalAttention.apply(*rows, scale)
    return output.unflatten(0, query.shape[:2]).transpose(1, 2), None


class _CausalAttention(torch.autograd.Function):
    """softmax(scale * query @ key.T) @ value over each position and those before it, for [M, S, size]."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """The output [M, S, size]."""
        ctx.save_for_backward(query, key, value)
        ctx.scale = scale
        output = torch.empty_like(value)
        mask = _future(query.shape[1], query.dtype)
        for part in _parts(query):
            torch.bmm(_probabilities(query[part], key[part], mask, scale), value[part], out=output[part])
        return output

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Gradients of query, key and value."""
        query, key, value = ctx.saved_tensors
        gradients = [torch.empty_like(states) for states in (query, key, value)]
        of_query, of_key, of_value = gradients
        mask = _future(query.shape[1], query.dtype)
        for part in _parts(query):
            probabilities = _probabilities(query[part], key[part], mask, ctx.scale)
            torch.bmm(probabilities.mT, upstream[part], out=of_value[part])
            error = upstream[part] @ value[part].mT
            error = torch._softmax_backward_data(error, probabilities, -1, error.dtype)
            # beta 0: the first argument is there for its shape
            torch.baddbmm(query[part], error, key[part], beta=0, alpha=ctx.scale, out=of_query[part])
            torch.baddbmm(key[part], error.mT, query[part], beta=0, alpha=ctx.scale, out=of_key[part])
        return of_query, of_key, of_value, None


@functools.lru_cache(maxsize=1)  # all layers of a batch have the same
def _future(size: int, dtype: torch.dtype) -> Tensor:
    """[S, S]: minus infinity where a key comes after its query, else 0."""
    return torch.full((size, size), float("-inf"), dtype=dtype).triu(1)


def _parts(query: Tensor) -> list[slice]:
    size = max(1, _CHUNK_BYTES // (query.element_size() * query.shape[1] ** 2))
    return [slice(start, start + size) for start in range(0, len(query), size)]


def _probabilities(query: Tensor, key: Tensor, mask: Tensor, scale: float) -> Tensor:
    return torch.baddbmm(mask, query, key.mT, alpha=scale).softmax(dim=-1)
