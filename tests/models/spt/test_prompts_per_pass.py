"""`model.prompts_per_pass`: the same losses and gradients, from fewer activations at a time."""

import json

import pytest
import torch

from models.trained_part import read_trained
from tests.benchmark.memory import peak_bytes
from tests.conftest import FAMILIES
from tests.helpers import logged, model_of, train, train_batch

WEIGHTS = {"selective_loss_weight": 0.3, "contrastive_weight": 0.6}


@pytest.fixture
def make(make_config, examples):
    """make(prompts_per_pass, family, training, model): a model of four drawn prompts, and a batch for it."""

    def build(prompts_per_pass, family="opt", training=None, model=None):
        config = make_config(
            family,
            model={"K": 4, "prompts_per_pass": prompts_per_pass, **(model or {})},
            training=WEIGHTS | (training or {}),
        )
        torch.manual_seed(11)  # after the LM is made
        made = model_of(config).train()
        return made, train_batch(made, [examples[number] for number in (1, 3, 8, 9, 15)])

    return build


def step(model, batch):
    """Losses with the total, and the gradients of what is trained, by name."""
    output = model(batch, 0.25)
    output.total.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {**output.losses, "total": output.total}, gradients


@pytest.mark.parametrize("prompts_per_pass", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("family", "training", "model"),
    [
        *((family, {}, {}) for family in FAMILIES),
        ("opt", {"rows": "dialogue", "annealing_nll": True}, {}),
        ("llama", {"disable_nll": True}, {"gradient_checkpointing": True}),
        ("llama", {"all_tunable": True}, {}),
    ],
)
def test_losses_and_gradients_are_those_of_one_pass(make, prompts_per_pass, family, training, model):
    """The losses couple the prompts: a group with a graph of its own would train another method under the same name."""
    wanted, wanted_gradients = step(*make(None, family, training, model))
    losses, gradients = step(*make(prompts_per_pass, family, training, model))
    assert losses.keys() == {"llm", "selection", "fusion", "contrastive", "total"} == wanted.keys()
    for name, loss in wanted.items():
        torch.testing.assert_close(losses[name], loss, atol=1e-6, rtol=1e-6)
    assert gradients.keys() == wanted_gradients.keys() >= {"soft_prompts.weight", "retriever.linear.weight"}
    for name, gradient in wanted_gradients.items():
        assert gradient.any(), name
        torch.testing.assert_close(gradients[name], gradient, atol=1e-6, rtol=1e-5)


def test_the_default_is_one_pass_bit_for_bit(make):
    """A run of an earlier version could not be repeated."""
    wanted, wanted_gradients = step(*make(4))
    losses, gradients = step(*make(None))
    assert all(torch.equal(losses[name], wanted[name]) for name in wanted)
    assert all(torch.equal(gradients[name], wanted_gradients[name]) for name in wanted_gradients)


@pytest.mark.parametrize(("prompts_per_pass", "rows"), [(1, [1] * 7), (2, [2] * 3), (3, [3, 1, 3]), (4, [4])])
def test_every_group_but_the_last_is_read_again(make, monkeypatch, prompts_per_pass, rows):
    """The last group's activations are at hand when the backward pass begins: a second reading is time for nothing."""
    model, batch = make(prompts_per_pass)
    hidden, seen = model.lm.hidden, []

    def noting(embeddings, cache=None):
        seen.append(len(embeddings) // len(batch.input_ids))
        return hidden(embeddings, cache)

    monkeypatch.setattr(model.lm, "hidden", noting)
    model(batch).total.backward()
    assert seen == rows


def test_memory_falls_with_the_prompts_of_a_pass(make):
    """If one group's activations outlived it, a model too large for a device would stay so, and only take longer."""
    peaks = {}
    for prompts_per_pass in (4, 2, 1):
        model, batch = make(prompts_per_pass, training={"only_nll": True})
        peaks[prompts_per_pass] = peak_bytes(lambda model=model, batch=batch: step(model, batch))
    assert peaks[2] < 0.6 * peaks[4]
    assert peaks[1] < 0.35 * peaks[4]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [*(pytest.param(stage, marks=pytest.mark.long) for stage in (0, 1, 2)), 3])
def test_every_stage_of_zero_trains_the_same(make_config, distributed, tmp_path, stage):
    """ZeRO takes weights apart between a group's two readings: the second one would see none of them."""
    ds_config = tmp_path / "ds.json"
    zero = {"stage": stage, "stage3_param_persistence_threshold": 0}
    ds_config.write_text(json.dumps({"zero_optimization": zero}), encoding="utf-8")
    rows, states = [], []
    for prompts_per_pass in (None, 1):
        torch.manual_seed(11)
        config = make_config(
            model={"K": 3, "prompts_per_pass": prompts_per_pass}, training={"training_ratio": 0.2}
        )
        run = train(config, distributed, f"per_pass_{prompts_per_pass}", str(ds_config))
        rows.append(logged(run, "valid_epoch")[0]["total"])
        states.append(read_trained(run)[0])
    assert rows[1] == pytest.approx(rows[0], rel=1e-5)
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, atol=1e-4, rtol=1e-3)
