"""Routed prompts on two ranks: how often they pass through the LM, and what they learn."""

import json
from pathlib import Path

import pytest
import torch

from models.decoding.runs import load_run, read_run_config
from models.reading import make_loader
from models.trained_part import read_trained
from tests.conftest import config_for
from tests.helpers import BareEngine, launch, logged
from trainer.validation import validate

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    ("router", "rows"),
    [("turn", "dialogue"), ("random", "dialogue"), ("smop", "example"), ("gated", "example")],
)
def test_two_ranks_learn_the_same_at_every_stage(data, lm_folder, distributed, tmp_path, router, rows):
    """At stage 3 a rank that passes through the LM once less than the other one waits for it for ever."""
    sections = {
        # with more prompts than a dialogue has turns, some have no example in a batch
        "model": {"model_type": "routed_prompts", "router": router, "K": 7},
        "training": {"learning_rate": 1e-4, "training_ratio": 0.6, "rows": rows, "batch_size": 8},
    }
    config = config_for(data, lm_folder("opt"), tmp_path / "runs", sections)
    content = {"sections": config.model_dump(), "stages": [2, 3], "out": str(tmp_path)}
    (tmp_path / "job.json").write_text(json.dumps(content), encoding="utf-8")
    done = launch("deepspeed", "--num_gpus=2", "--module", "tests.two_ranks", str(tmp_path / "job.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    runs = [Path(run) for run in json.loads((tmp_path / "runs.json").read_text(encoding="utf-8")).values()]
    ours, theirs = (logged(run, "train_epoch")[0]["total"] for run in runs)
    assert ours == pytest.approx(theirs, rel=1e-5)
    ours, theirs = (read_trained(run)[0] for run in runs)
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-3, rtol=1e-3)
    model = load_run(runs[0], read_run_config(runs[0], []))
    loader = make_loader(
        model.config.dataset.valid, model.tokenizer, model.config, False, max_tokens=model.text_limit(0)
    )
    (wanted,) = logged(runs[0], "valid_epoch")
    row = validate(BareEngine(model), loader, distributed)
    assert row == {name: pytest.approx(wanted[name], rel=1e-5, abs=1e-6) for name in row}
