"""Precision and ZeRO stage: every combination learns what stage 2 learns, or is refused before any work."""

import json

import pytest

from models import dialogue_task
from tests.helpers import logged, train
from trainer import engine as engine_module
from utils.errors import UserError


@pytest.fixture(autouse=True)
def _float16(monkeypatch):
    """DeepSpeed runs float16 on this CPU too, only slowly."""
    monkeypatch.setattr(engine_module.get_accelerator(), "is_fp16_supported", lambda: True)


@pytest.fixture
def run_at(make_config, distributed, tmp_path):
    """run_at(precision, content of the DeepSpeed configuration): the run folder."""

    def run(precision, **content):
        ds_config = tmp_path / "ds.json"
        ds_config.write_text(json.dumps(content), encoding="utf-8")
        config = make_config(
            model={"load_bit": precision},
            training={"log_every": 1, "save_model": False, "grad_clip": 0.1, "training_ratio": 0.2},
        )
        return train(config, distributed, "precision", str(ds_config))

    return run


def _losses(run):
    return [row["total"] for row in logged(run, "train") + logged(run, "valid_epoch")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision", [*(pytest.param(bits, marks=pytest.mark.long) for bits in (32, 16)), "bf16"]
)
def test_every_stage_learns_what_stage_2_learns(run_at, precision):
    """Gradients divided by a loss scale that was never applied, or a first step on gradients of zero.

    DeepSpeed's stage 0, the default where the section is missing, does that in half precision: the losses fall a
    little and look like those of a training.
    """
    wanted = _losses(run_at(precision, zero_optimization={"stage": 2}))
    assert len(wanted) == 5  # 4 steps and the validation
    assert _losses(run_at(precision)) == pytest.approx(wanted, rel=1e-6)
    for stage in (0, 3):
        losses = _losses(run_at(precision, zero_optimization={"stage": stage}))
        assert losses == pytest.approx(wanted, rel=1e-6), stage


@pytest.mark.slow
@pytest.mark.long
def test_gradients_may_be_summed_in_float32_at_every_stage(run_at):
    """A valid `grad_accum_dtype` ended in a NotImplementedError at stage 0, after the LM was loaded."""
    content = {"gradient_accumulation_steps": 2, "data_types": {"grad_accum_dtype": "fp32"}}
    wanted = _losses(run_at("bf16", zero_optimization={"stage": 2}, **content))
    for stage in (0, 3):
        losses = _losses(run_at("bf16", zero_optimization={"stage": stage}, **content))
        # the stages round a step's sum at other places
        assert losses == pytest.approx(wanted, rel=1e-4), stage


@pytest.mark.parametrize(
    ("precision", "types", "message"),
    [
        (
            32,
            {"grad_accum_dtype": "bf16"},
            "grad_accum_dtype of .* is 'bf16'; with model.load_bit 32 it can be fp32",
        ),
        (16, {"grad_accum_dtype": "bf16"}, "is 'bf16'; with model.load_bit 16 it can be fp32 or fp16"),
        (
            "bf16",
            {"grad_accum_dtype": "float16"},
            "is 'float16'; with model.load_bit bf16 it can be fp32 or bf16",
        ),
        ("bf16", {"grad_accum_dtype": "int8"}, "is 'int8'; with model.load_bit bf16 it can be fp32 or bf16"),
        ("bf16", {"grad_accum_dtype": "single"}, "is 'single'; with model.load_bit bf16"),
        ("bf16", {"grad_accum_dtype": ["fp32"]}, r"is \['fp32'\]; with model.load_bit bf16"),
        (
            "bf16",
            {"param_dtype": "fp32"},
            "param_dtype of .* is 'fp32'; with model.load_bit bf16 it can be bf16",
        ),
        (32, {"buffer_dtype": "int8"}, "buffer_dtype of .* is 'int8'; .* fp32 or fp16 or bf16"),
    ],
)
@pytest.mark.parametrize("stage", [0, 2])
def test_data_types_that_do_not_go_together_are_refused(
    run_at, monkeypatch, precision, types, message, stage
):
    """An error deep inside DeepSpeed after minutes of loading, or sums in a precision that nobody reads of."""
    monkeypatch.setattr(dialogue_task, "build_tokenizer", lambda config: pytest.fail("work was begun"))
    with pytest.raises(UserError, match=message) as caught:
        run_at(precision, zero_optimization={"stage": stage}, data_types=types)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"zero_optimization": {"stage": "two"}}, "zero_optimization.stage = 'two'"),
        ({"zero_optimization": {"stage": True}}, "zero_optimization.stage = True"),
        ({"zero_optimization": {"reduce_bucket_size": -1}}, "DeepSpeed refuses 'reduce_bucket_size'"),
        (
            {"communication_data_type": "int4"},
            "DeepSpeed refuses the configuration: Invalid communication_data_type",
        ),
        (
            {"checkpoint": {"tag_validation": "maybe"}},
            "DeepSpeed refuses the configuration: .* tag_validation",
        ),
        ({"fp16": {"loss_scale": -1}}, "DeepSpeed refuses 'loss_scale'"),
    ],
)
def test_values_that_deepspeed_refuses_are_told_before_any_work(run_at, monkeypatch, content, message):
    """A mistake in a number that comes to light when a large LM has been loaded and a large file encoded."""
    monkeypatch.setattr(dialogue_task, "build_tokenizer", lambda config: pytest.fail("work was begun"))
    with pytest.raises(UserError, match=message) as caught:
        run_at(16, **content)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "name"), [(16, "float16"), ("bf16", "bfloat16")])
def test_the_stage_that_runs_is_said(run_at, capsys, precision, name):
    """Stage 0 in the file and stage 1 in the memory plan, without a word."""
    run_at(precision)
    output = capsys.readouterr().out
    assert f"automatic choice: ZeRO stage 0 -> 1: DeepSpeed's stage 0 is not exact in {name}" in output
    assert f"{name}, ZeRO stage 1" in output
