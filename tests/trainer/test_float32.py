"""Runs in half precision keep the float32 weights that were trained, and start from float32 weights."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import set_seed

from models.decoding.runs import load_run, read_run_config
from models.reading import make_loader
from models.registry import build_model, build_tokenizer
from tests.helpers import logged, train
from trainer import engine as engine_module

STAGES = (0, 1, 2, 3)


@pytest.fixture
def run_half(make_config, distributed, tmp_path, monkeypatch):
    """run_half(stage, precision, training={...}): the folder of a run in half precision."""
    monkeypatch.setattr(engine_module.get_accelerator(), "is_fp16_supported", lambda: True)

    def run(stage, precision="bf16", ckpt_path=None, model=None, **training):
        ds_config = tmp_path / "ds.json"
        ds_config.write_text(json.dumps({"zero_optimization": {"stage": stage}}), encoding="utf-8")
        config = make_config(
            model={"load_bit": precision, **(model or {})}, training={"training_ratio": 0.33} | training
        )
        return train(config, distributed, "half", str(ds_config), ckpt_path)

    return run


def _start(run):
    """The parameters that a run of this seed begins with."""
    config = read_run_config(run, [])
    set_seed(config.training.seed)
    return build_model(config, build_tokenizer(config)).trained_state()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "stage"),
    [*(("bf16", stage) for stage in STAGES), pytest.param(16, 2, marks=pytest.mark.long)],
)
def test_the_file_holds_what_was_trained_in_float32(run_half, precision, stage):
    """At a low learning rate hardly an entry of a bfloat16 model moves: a run's file was that of its start."""
    run = run_half(stage, precision, learning_rate=1e-5)
    trained, start = load_file(run / "trained.safetensors"), _start(run)
    assert trained.keys() == start.keys()
    for name, tensor in trained.items():
        assert tensor.dtype == torch.float32
        moved = (tensor - start[name]).abs()
        assert (moved > 0).float().mean() > 0.9, name
        assert moved.max() < 9e-5, name  # 8 steps of Adam: no entry was rounded, which is a step of 2e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "stage"),
    [
        ("bf16", 0),
        pytest.param("bf16", 2, marks=pytest.mark.long),
        ("bf16", 3),
        pytest.param(16, 1, marks=pytest.mark.long),
    ],
)
def test_a_loaded_run_has_the_weights_of_its_validation(run_half, data, precision, stage):
    """A loaded model that computes otherwise than the one that was validated chooses other prompts."""
    run = run_half(stage, precision)
    model = load_run(run, read_run_config(run, []))
    kinds = {parameter.dtype for parameter in model.parameters()}
    assert kinds == {torch.float16 if precision == 16 else torch.bfloat16}
    loader = make_loader(str(data["valid"]), model.tokenizer, model.config, train=False, max_tokens=380)
    llm = []
    with torch.no_grad():
        for batch in loader:
            output = model(batch)
            llm.append((output.losses["fusion"].item(), batch.num_examples))
    mean = sum(loss * count for loss, count in llm) / sum(count for _, count in llm)
    assert mean == pytest.approx(logged(run, "valid_epoch")[0]["fusion"], rel=1e-6)


@pytest.mark.parametrize("stage", STAGES)
def test_ckpt_path_starts_from_the_float32_values(run_half, trained_run, stage):
    """A start from rounded weights throws away what the run before had learnt below bfloat16's steps."""
    run = run_half(stage, ckpt_path=str(trained_run), learning_rate=1e-9)
    before, after = (load_file(folder / "trained.safetensors") for folder in (trained_run, run))
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, atol=1e-7, rtol=1e-7)


def test_a_float32_run_reads_a_half_one(run_half, make_config, distributed):
    """Precision is a choice of each run, also where one starts from another."""
    half = run_half(2)
    config = make_config(training={"learning_rate": 1e-9, "training_ratio": 0.2})
    run = train(config, distributed, "single", None, str(half))
    before, after = (load_file(folder / "trained.safetensors") for folder in (half, run))
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("kind", ["prefix_tuning", "lora", "full_finetuning"])
def test_the_baselines_keep_float32_too(run_half, kind):
    """The same loss for every model type: each has parameters in the LM's precision."""
    run = run_half(2, model={"model_type": kind}, learning_rate=1e-5, training_ratio=0.2)
    state = load_file(run / "trained.safetensors")
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    rounded = [
        torch.equal(tensor, tensor.bfloat16().float()) for name, tensor in state.items() if tensor.any()
    ]
    assert not any(rounded)
    load_run(run, read_run_config(run, []))
