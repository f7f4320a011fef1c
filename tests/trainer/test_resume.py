"""Going on with a run that was stopped: as if it had never been."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.dialogue_task import dialogue_task
from models.spt.model import SelectivePromptTuning
from tests.helpers import json_rows
from trainer import loop, training
from trainer.checkpoints import open_checkpoint
from utils.runs import CHECKPOINTS

CLOCKS = ("examples_per_second",)


SAVE_IF_DUE = loop.Trainer._save_if_due


class Killed(BaseException):
    """Stands for SIGKILL where a process of its own would take seconds; see tests/trainer/test_kills.py."""


def ds_file(folder: Path, stage: int, accumulation: int = 1) -> str:
    """A DeepSpeed configuration."""
    path = folder / f"ds_{stage}_{accumulation}.json"
    content = {"zero_optimization": {"stage": stage}, "gradient_accumulation_steps": accumulation}
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


@pytest.fixture
def runs(make_config, distributed, tmp_path, monkeypatch):
    """runs(kill_at, stage, ...): the folder of a training that is killed after so many steps, and resumed each time."""

    def make(*kill_at, stage=0, accumulation=1, **sections):
        wanted = {
            "num_epochs": 2,
            "training_ratio": 0.5,
            "save_steps": 3,
            "log_every": 2,
            "deterministic": True,
            "adding_noise": 0.1,  # random states matter
        }
        if sections.get("model", {}).get("model_type"):
            del wanted["adding_noise"]
        config = make_config(**{**sections, "training": {**wanted, **sections.get("training", {})}})
        folder, steps = None, iter([*kill_at, None])
        while True:
            limit = next(steps)
            _kill_after(monkeypatch, limit)
            ds_path = ds_file(tmp_path, stage, accumulation)
            try:
                return training.train(
                    dialogue_task(config), distributed, "run", ds_path, resume=folder and str(folder)
                )
            except Killed:
                folder = max((tmp_path / "runs").iterdir(), key=lambda path: path.stat().st_mtime)

    return make


def _kill_after(monkeypatch, limit):
    def save_if_due(self):
        if limit is not None and self.steps == limit:
            raise Killed
        SAVE_IF_DUE(self)

    monkeypatch.setattr(loop.Trainer, "_save_if_due", save_if_due)


def assert_equal_runs(ours: Path, theirs: Path) -> None:
    """The same weights, checkpoints and rows, bit for bit."""
    weights = [
        path.relative_to(theirs) for path in theirs.rglob("*.safetensors") if path.parent.name != CHECKPOINTS
    ]
    assert weights
    for path in weights:
        mine, other = load_file(ours / path), load_file(theirs / path)
        assert mine.keys() == other.keys()
        assert all(torch.equal(mine[name], other[name]) for name in mine), path
    for found, wanted in zip(open_checkpoint(ours), open_checkpoint(theirs), strict=True):
        if isinstance(found, loop.Progress):
            left_out = {"logs", "seconds"}
            assert found.model_dump(exclude=left_out) == wanted.model_dump(exclude=left_out)
        else:
            assert list(found) == list(wanted)
            assert all(torch.equal(found[name], wanted[name]) for name in found)
    rows = [json_rows(run / "metrics.jsonl") for run in (ours, theirs)]
    for row in rows[0] + rows[1]:
        for key in [key for key in row if key in CLOCKS or key.startswith("seconds_")]:
            del row[key]
    assert rows[0] == rows[1]


def test_statistics_are_those_of_the_start(runs, monkeypatch):
    """Queries that are whitened anew on the way are scored by a retriever that learnt from others."""
    found = []
    measure = SelectivePromptTuning.measure

    def noted(self, *more):
        measure(self, *more)
        found.append(self.statistics[name].clone())

    monkeypatch.setattr(SelectivePromptTuning, "measure", noted)
    name = "retriever.whitening.matrix"
    resumed = runs(
        1, 4, model={"retriever": {"query_whiten": True}}, training={"num_epochs": 1, "save_steps": 2}
    )
    # from the start where there was no checkpoint yet, and not from step 2
    assert len(found) == 2
    kept = load_file(resumed / "trained.safetensors")[name]
    assert torch.equal(kept, found[1])
    assert torch.equal(open_checkpoint(resumed)[0][f"value/{name}"], kept)


@pytest.mark.parametrize(
    ("stage", "sections"),
    [
        (0, {}),
        pytest.param(2, {}, marks=pytest.mark.long),
        (3, {}),
        (1, {"model": {"load_bit": "bf16"}}),
        pytest.param(
            0, {"training": {"warmup_type": "OneCycle", "warmup_ratio": 0.3}}, marks=pytest.mark.long
        ),
        pytest.param(0, {"model": {"model_type": "routed_prompts"}}, marks=pytest.mark.long),
        pytest.param(
            0, {"model": {"model_type": "routed_prompts", "router": "random"}}, marks=pytest.mark.long
        ),
    ],
    ids=["0", "2", "3", "1-bf16", "one-cycle", "smop", "random"],
)
def test_resumed_is_as_never_stopped(runs, stage, sections):
    """A resumed run that is a little off compares a method with itself and finds a difference."""
    whole = runs(stage=stage, **sections)
    resumed = runs(1, 4, 9, stage=stage, **sections)
    assert resumed != whole
    assert_equal_runs(resumed, whole)
