"""Memory and arithmetic of a step from sizes alone."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from models.cost import (
    Activations,
    LMSizes,
    StepSizes,
    measured_activations,
    sizes_of,
    step_bytes,
    step_flops,
)
from tests.helpers import model_of, train_batch

KNOWN = Activations(per_width=14, per_feed_forward=6, outside=24)
SIZES = LMSizes("llama", 8, 2, 32, 100, 10_000, 2)


@pytest.mark.parametrize("family", ["opt", "llama", "gpt2"])
@pytest.mark.parametrize("precision", [32, "bf16"])
def test_sizes_are_those_of_the_lm(lm_folder, family, precision):
    """A size that is read under a name of another family: the estimate is of an LM that is not trained."""
    folder = lm_folder(family)
    sizes = sizes_of(AutoConfig.from_pretrained(folder), precision)
    lm = AutoModelForCausalLM.from_pretrained(folder)
    assert (sizes.kind, sizes.width, sizes.layers, sizes.feed_forward) == (
        family,
        32,
        2,
        128,
    )
    assert sizes.parameters == sum(parameter.numel() for parameter in lm.parameters())
    assert sizes.bytes_per_value == (4 if precision == 32 else 2)
    assert sizes.in_layers == pytest.approx(
        sizes.layers * (4 * 32**2 + (3 if family == "llama" else 2) * 32 * 128), rel=0.6
    )


def test_a_kind_that_was_not_measured_is_taken_for_a_llama():
    """A family without figures of its own would have none, or those of an LM that keeps less."""
    unknown = LMSizes("other", 8, 2, 32, 100, 10_000, 2)
    assert (
        measured_activations(SIZES, False)
        == measured_activations(unknown, False)
        != measured_activations(SIZES, True)
    )


def test_memory_by_hand():
    """A part that is counted twice, or in other bytes, makes the verdict on the machine wrong."""
    step = StepSizes(tokens=10, targets=3, copies=4, at_once=2)
    found = step_bytes(SIZES, KNOWN, step, trained=50, frozen=9_950)
    layer = 14 * 8 + 6 * 32
    assert found == {
        "weights": 2 * 9_950,
        "trained part": 50 * 20,
        "activations": 2 * 10 * (2 * layer + 24 * 8),
        "targets": 4 * 2 * 4 * 3 * 8,
        "logits": 2 * 4 * 4 * 3 * 100,
    }
    single = LMSizes("llama", 8, 2, 32, 100, 10_000, 4)
    assert step_bytes(single, KNOWN, step, 50, 0, plain=True)["trained part"] == 50 * 16
    recomputed = StepSizes(10, 3, recomputed=True)
    assert step_bytes(SIZES, KNOWN, recomputed, 0, 0)["activations"] == 10 * (layer + 2 * 8 * 2 + 24 * 8)


def test_operations_are_those_that_torch_counts(make_config, examples):
    """An arithmetic that forgets the backward pass, or the prompts, promises a third of the time."""
    config = make_config()
    model = model_of(config).train()
    batch = train_batch(model, examples[:4])
    with FlopCounterMode(display=False) as counter:
        model(batch).total.backward()
    sizes = sizes_of(model.lm.model.config, 32)
    rows, length = batch.input_ids.shape
    step = StepSizes(rows * (length + 4), len(batch.target_ids), copies=3, at_once=3)
    # attention is left out, and is large where the LM is tiny
    assert step_flops(sizes, step) == pytest.approx(counter.get_total_flops(), rel=0.6)
    assert step_flops(sizes, step, trains_lm=True) > 1.3 * step_flops(sizes, step)
    in_two = StepSizes(step.tokens, step.targets, copies=3, at_once=2)
    assert step_flops(sizes, in_two) > step_flops(sizes, step)
    assert torch.isfinite(torch.tensor(step_flops(sizes, step)))
