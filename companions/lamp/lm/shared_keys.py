"""Attention in which several rows share their keys and values: the beams of a question read the same prompt."""

from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_NAME = "shared_keys"


def share_keys(model: PreTrainedModel) -> None:
    """Let cross-attention take fewer rows of keys than of queries, each for as many queries in a row.

    All else is as before. An LM that the library's default attention is not made for stays as it is.
    """
    if model.config.is_encoder_decoder and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(_NAME, _attention)
        AttentionMaskInterface.register(_NAME, sdpa_mask)
        model.set_attn_implementation(_NAME)


def shares_keys(model: PreTrainedModel) -> bool:
    """Whether `share_keys` has been of use."""
    return bool(model.config._attn_implementation == _NAME)


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **more: Any
) -> tuple[Tensor, None]:
    """The library's, with queries [B * n, heads, 1, D] as n queries each of keys [B, heads, S, D]."""
    rows, heads, length, size = query.shape
    if rows == len(key):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **more)
    folded = query.view(len(key), -1, heads, size).transpose(1, 2)  # [B, heads, n, D]
    more["is_causal"] = False
    output, _ = sdpa_attention_forward(module, folded, key, value, attention_mask, **more)  # [B, n, heads, D]
    return output.reshape(rows, length, heads, size), None
