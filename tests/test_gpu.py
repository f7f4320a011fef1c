"""What only a GPU can show: the numbers and replies of the CPU, and a run in bfloat16. `make gpu` runs these."""

import json
import sys
from pathlib import Path

import pytest
import torch

from models.decoding.generation import generate_replies
from tests.helpers import inference_batch, json_rows, launch, logged, model_of, train_batch
from tests.models.test_golden import LOSS_CASES, expected_of, loaded

pytestmark = pytest.mark.gpu
DEVICE = "cuda"


@pytest.mark.parametrize("case", LOSS_CASES)
def test_losses_and_scores_are_the_authors(case):
    """A kernel with reduced precision, or an index made on another device, would train another model."""
    model, examples, expected = loaded.__wrapped__(case)  # not the shared one, which stays on the CPU
    model.to(DEVICE)
    batch = train_batch(model, examples).to(DEVICE)
    output = model(batch)
    found = {**output.losses, "total": output.total}
    for name, value in expected["losses"].items():
        assert found[name].item() == pytest.approx(value, rel=1e-3, abs=1e-4), name
    scores = torch.tensor(expected_of(case)["scores_training_KxB"])
    torch.testing.assert_close(model.scores(batch.query).cpu(), scores, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("family", ["opt", "llama"])
def test_replies_are_those_of_the_cpu(family, make_config, examples):
    """A run that is decoded on another machine must be scored on the same replies."""
    model = model_of(make_config(family))
    batch = inference_batch(model, examples[:8])
    choice = torch.arange(8) % model.num_prompts
    here = [reply.text for reply in generate_replies(model, batch, None, choice)]
    model.to(DEVICE)
    there = [reply.text for reply in generate_replies(model, batch.to(DEVICE), None, choice.to(DEVICE))]
    assert there == here


def test_a_run_in_bfloat16_trains_and_decodes(data, lm_folder, tmp_path):
    """A tensor that stays on the CPU, or in float32, ends a run on its first step or on its first reply."""
    settings = {
        "model.model_name": lm_folder("opt"),
        "model.load_bit": "bf16",
        "dataset.train": data["train"],
        "dataset.valid": data["valid"],
    }
    arguments = [text for key, value in settings.items() for text in ("--set", f"{key}={value}")]
    done = launch(
        sys.executable,
        "train.py",
        "--config=config/sample/spt.yml",
        f"--log_dir={tmp_path}",
        "--epoch=1",
        "--do_test=yes",
        *arguments,
        variables={"DS_ACCELERATOR": DEVICE},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"device {DEVICE}:0, 1 rank(s)" in done.stdout
    assert "bfloat16" in done.stdout
    (run,) = (path for path in Path(tmp_path).iterdir() if path.is_dir())
    (epoch,) = logged(run, "valid_epoch")
    assert json.dumps(epoch, allow_nan=False)
    assert len(json_rows(run / "evaluation_result.jsonl")) == 28
