"""The whole chain on a few questions of the sample."""

import json

import pytest

from companions.lamp.pipeline import running
from companions.lamp.pipeline.commands import run_command
from companions.lamp.pipeline.running import run_pipeline
from companions.lamp.pipeline.settings import read_config
from companions.lamp.sample import generate
from tests.conftest import ROOT
from utils.errors import UserError

COUNTS = {"train": 16, "dev": 6}
SHORT = [f"{section}.num_epochs=1" for section in ("lm", "ropg_kd", "ropg_rl", "rspg")]


@pytest.fixture
def config(tmp_path):
    """config(*assignments): that of the sample with few questions, one epoch each, in a folder of the test's own."""
    given = list(SHORT)
    for split, count in COUNTS.items():
        questions, outputs = generate.make(split)
        for name, content in (
            ("questions", questions[:count]),
            ("outputs", {**outputs, "golds": outputs["golds"][:count]}),
        ):
            path = tmp_path / f"{split}_{name}.json"
            path.write_text(json.dumps(content))
            given.append(f"data.{split}_{name}={path}")
    given.append(f"data.folder={tmp_path / 'runs'}")
    sample = str(ROOT / "config" / "lamp" / "sample.yml")
    return lambda *assignments: read_config(sample, [*given, *assignments])


@pytest.mark.slow
def test_the_chain_runs_and_resumes(config, distributed, monkeypatch, tmp_path):
    """The parts fit one another: what one command writes, the next one reads; nothing is done twice."""
    ran = []

    def run(command, context):
        if command.module.endswith("train_rl") and "--interrupted" not in ran:
            ran.append("--interrupted")
            raise KeyboardInterrupt
        ran.append(command.module.rpartition(".")[2])
        run_command(command, context)

    monkeypatch.setattr(running, "run_command", run)
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(config(), distributed)
    before = ran.index("--interrupted")
    text = run_pipeline(config(), distributed)
    for name in ("tiny_models", "train_llm", "train_kd", "profile_item_utilization_scorer"):
        assert name in ran[:before]
        assert name not in ran[before:]
    starts = [
        *("no profile", "recency", "BM25", "Contriever", "ROPG-KD", "ROPG-RL", "RSPG-Pre", "RSPG-Post"),
        "oracle over strategies",
    ]
    lines = text.splitlines()[1:-1]
    assert len(lines) == len(starts)
    assert all(line.startswith(start) for line, start in zip(lines, starts, strict=True))
    ran.clear()
    assert run_pipeline(config(), distributed) == text
    assert ran == []
    run_pipeline(config("rspg.label_temperature=0.5"), distributed)
    assert ran == ["rspg", "rspg", "table"]


def test_missing_questions_are_told_before_any_work(config, distributed, tmp_path):
    """The chain would rank for an hour, and then have no development questions."""
    with pytest.raises(UserError, match="file of questions or outputs not found"):
        run_pipeline(config(f"data.dev_outputs={tmp_path / 'none.json'}"), distributed)
    assert not (tmp_path / "runs").exists()
