"""The ways of a CPU: other kernels, the same numbers, and nothing left behind."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from models import onednn
from models.decoding.generation import generate_replies
from models.decoding.settings import DecodingSettings
from models.lm import cpu_decoding
from models.lm.cpu_decoding import attention, fast_on_cpu
from models.onednn import linear
from tests.helpers import inference_batch, model_of

ROWS, LENGTH = 19, 40  # more than two groups of rows


def masks(heads):
    """What families pass on: nothing, what is seen, the same to be added, and a bias of each head."""
    seen = (torch.arange(LENGTH) >= torch.randint(0, LENGTH, (ROWS, 1)))[:, None, None]  # [B, 1, 1, L]
    added = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    return {"none": None, "bool": seen, "added": added, "bias": added + torch.randn(ROWS, heads, 1, LENGTH)}


@pytest.mark.parametrize("kind", ["none", "bool", "added", "bias"])
@pytest.mark.parametrize(("heads", "key_heads"), [(4, 4), (8, 2)])
def test_attention_of_single_tokens_is_the_librarys(heads, key_heads, kind):
    """A mask of other rows, or queries of another group of heads, give words that are not the LM's own."""
    torch.manual_seed(1)
    query = torch.randn(ROWS, heads, 1, 16)
    # a part of memory that has more room, as in decoding
    key, value = (torch.randn(ROWS, key_heads, LENGTH + 9, 16)[:, :, :LENGTH] for _ in range(2))
    mask = masks(heads)[kind]
    found, _ = attention(nn.Module(), query, key, value, mask, scaling=0.3)
    expected = F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=0.3, enable_gqa=heads != key_heads
    )
    torch.testing.assert_close(found, expected.transpose(1, 2), rtol=1e-5, atol=1e-5)


def test_slots_before_short_texts_are_not_read():
    """Half of what a batch reads at each token would be the empty room before its shorter texts."""
    query = torch.randn(ROWS, 2, 1, 4)
    key, value = torch.randn(2, ROWS, 2, LENGTH, 4)
    seen = torch.arange(LENGTH).expand(ROWS, 1, 1, LENGTH) >= 30
    key[:, :, :30] = value[:, :, :30] = torch.nan
    assert attention(nn.Module(), query, key, value, seen)[0].isfinite().all()


@pytest.mark.parametrize("asked", [{"position_bias": torch.zeros(1)}, {"softcap": 3.0}, {"dropout": 0.5}])
def test_what_changes_the_arithmetic_is_left_to_the_library(monkeypatch, asked):
    """A bias or cap that is passed over in silence gives other words than the LM's own."""
    monkeypatch.setattr(cpu_decoding, "sdpa_attention_forward", lambda *_, **given: (given, None))
    states = torch.randn(2, 2, 1, 4)
    (given, _) = attention(nn.Module(), states, states, states, None, **asked)
    assert asked.items() <= given.items()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 8), (2, 5, 8), (0, 8)])
def test_products_are_those_of_torch(dtype, shape):
    """Losses and replies rest on them."""
    inputs, weight, bias = (torch.randn(size).to(dtype) for size in (shape, (6, 8), (6,)))
    for extra in (None, bias):
        with torch.no_grad():
            torch.testing.assert_close(linear(inputs, weight, extra), F.linear(inputs, weight, extra))


def test_products_that_something_learns_from_keep_their_gradients():
    """oneDNN's product has none: what is trained through it would stand still."""
    inputs, weight = torch.randn(3, 8), torch.randn(6, 8, requires_grad=True)
    linear(inputs, weight).sum().backward()
    assert weight.grad is not None


def test_after_decoding_the_lm_is_as_it_was(make_config, examples, monkeypatch):
    """Layers that are still replaced would train, or be saved, as something else; after an error too."""
    model = model_of(make_config("opt", model={"model_type": "textual"}))
    inside, before = [], ALL_ATTENTION_FUNCTIONS["sdpa"]
    product = onednn.linear
    monkeypatch.setattr(onednn, "linear", lambda *given: inside.append(1) or product(*given))
    generate_replies(
        model, inference_batch(model, examples[:1]), None, None, DecodingSettings(max_new_tokens=1)
    )
    assert inside
    with pytest.raises(RuntimeError, match="on the way"), fast_on_cpu(model.lm):
        raise RuntimeError("on the way")
    inside.clear()
    model.lm.hidden(torch.randn(1, 3, model.lm.width))
    assert not inside
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is before
