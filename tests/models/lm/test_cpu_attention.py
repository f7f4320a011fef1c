"""Attention of a training step on the CPU in half precision is PyTorch's own, in value and gradient."""

from types import SimpleNamespace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from models.lm import cpu_attention
from models.lm.cpu_attention import attention
from tests.helpers import model_of, train_batch


def states(heads_of_keys, dtype, length=37):
    """Query [2, 4, S, 8], key and value with fewer heads, and a gradient of the output."""
    torch.manual_seed(0)
    sizes = [(2, heads, length, 8) for heads in (4, heads_of_keys, heads_of_keys)]
    leaves = [torch.randn(size).to(dtype).requires_grad_() for size in sizes]
    return leaves, torch.randn(2, length, 4, 8).to(dtype)


def computed(function, leaves, upstream, **more):
    """Output and the gradients of query, key and value."""
    module = SimpleNamespace(is_causal=True, num_key_value_groups=4 // leaves[1].shape[1])
    output, _ = function(module, *leaves, None, **more)
    output.backward(upstream)
    return output, *(leaf.grad for leaf in leaves)


@pytest.mark.parametrize("chunk", [1, 3 * 2 * 37**2, 2**20])
@pytest.mark.parametrize("heads_of_keys", [4, 2])
@pytest.mark.parametrize("scaling", [None, 0.7])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_values_and_gradients_are_those_of_float32(monkeypatch, chunk, heads_of_keys, scaling, dtype):
    """A later position that is seen, or a head with the keys of another, trains prompts for another LM."""
    monkeypatch.setattr(cpu_attention, "_CHUNK_BYTES", chunk)
    leaves, upstream = states(heads_of_keys, dtype)
    exact = [leaf.detach().float().requires_grad_() for leaf in leaves]
    wanted = computed(sdpa_attention_forward, exact, upstream.float(), scaling=scaling)
    found = computed(attention, leaves, upstream, scaling=scaling)
    for mine, other in zip(found, wanted, strict=True):
        assert mine.shape == other.shape
        assert (mine.float() - other).norm() < 0.01 * other.norm()


@pytest.mark.parametrize(
    ("dtype", "mask", "more"),
    [
        (torch.float32, None, {}),
        (torch.bfloat16, torch.ones(37, 37, dtype=torch.bool), {}),
        (torch.bfloat16, None, {"is_causal": False}),
        (torch.bfloat16, None, {"position_bias": torch.ones(1, 4, 37, 37, dtype=torch.bfloat16)}),
    ],
)
def test_everything_else_is_left_to_the_library(dtype, mask, more):
    """A mask that is passed over would let an LM read what it may not."""
    module = SimpleNamespace(is_causal=True)
    leaves, _ = states(4, dtype)
    wanted, _ = sdpa_attention_forward(module, *leaves, mask, **more)
    found, _ = attention(module, *leaves, mask, **more)
    assert torch.equal(found, wanted)
    with torch.no_grad():
        assert torch.equal(
            attention(module, *leaves, None)[0], sdpa_attention_forward(module, *leaves, None)[0]
        )


@pytest.mark.parametrize("precision", [32, "bf16"])
@pytest.mark.parametrize("family", ["opt", "llama", "gpt2"])
def test_a_step_in_half_precision_uses_it(make_config, examples, family, precision):
    """The library's kernel takes a quarter of such a step, and nobody would see that it is back."""
    model = model_of(make_config(family, model={"load_bit": precision})).to(
        torch.bfloat16 if precision == "bf16" else torch.float32
    )
    batch = train_batch(model, examples[:2])
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        model(batch).total.backward()
    names = {event.key for event in recorded.key_averages()}
    assert ("_CausalAttention" in names) == (precision == "bf16")
    assert ("aten::_scaled_dot_product_flash_attention_for_cpu" in names) == (precision == 32)
