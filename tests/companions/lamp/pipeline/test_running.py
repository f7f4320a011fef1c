"""The whole chain on a part of the sample."""

import json

import pytest

from companions.lamp.pipeline import running
from companions.lamp.pipeline.commands import run_command
from companions.lamp.pipeline.running import run_pipeline
from companions.lamp.pipeline.settings import read_config
from companions.lamp.sample import generate
from tests.companions.lamp.golden import GOLDEN
from tests.companions.resumed import killed
from tests.conftest import ROOT
from tests.helpers import json_rows
from utils.errors import UserError

COUNTS = {"train": 300, "dev": 60}
SHORT = [
    "lm.num_epochs=4",
    "ropg_kd.num_epochs=6",
    "ropg_rl.num_epochs=12",
    "ropg_rl.learning_rate=2e-3",
    "ropg_rl.save_steps=8",
    "rspg.total_steps=4",
]
"""just long enough for the LM to use its items, and for the retriever to find them"""


@pytest.fixture
def config(tmp_path):
    """config(*assignments): that of the sample with fewer questions and epochs, in a folder of the test's own."""
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
    """The parts fit one another: what one command writes, the next one reads; nothing is done twice; and what the LM's
    feedback teaches is seen in the table, where a retriever that learns nothing, or another one's rankings, would stay
    at its start.
    """
    ran, interrupted = [], ["train_rl"]

    def run(command, context):
        name = command.module.rpartition(".")[2]
        if name == "train_rl" and interrupted:
            with killed(9):
                run_command(command, context)
        if name in interrupted:
            raise KeyboardInterrupt
        ran.append(name)
        run_command(command, context)

    monkeypatch.setattr(running, "run_command", run)
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(config(), distributed)
    before = len(ran)
    interrupted.clear()
    (begun,) = (tmp_path / "runs" / "ropg-rl-training").glob("ropg-rl-training_*")
    text = run_pipeline(config(), distributed)
    for name in ("tiny_models", "train_llm", "train_kd", "profile_item_utilization_scorer"):
        assert name in ran[:before]
        assert name not in ran[before:]
    assert list(begun.parent.glob("ropg-rl-training_*")) == [begun], "the training went on"
    assert json_rows(begun / "metrics.jsonl")[-1]["step"] > 9
    check_table(text, tmp_path)
    ran.clear()
    assert run_pipeline(config(), distributed) == text
    assert ran == []
    interrupted.append("rspg")
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(config("rspg.label_temperature=0.5"), distributed)
    assert ran == []


def check_table(text, folder):
    """The lines of the table, and the order of their figures."""
    starts = [
        *("no profile", "recency", "BM25", "Contriever", "ROPG-KD", "ROPG-RL", "RSPG-Pre", "RSPG-Post"),
        "oracle over strategies",
    ]
    lines = text.splitlines()[1 : 1 + len(starts)]
    assert all(line.startswith(start) for line, start in zip(lines, starts, strict=True))
    figures = json.loads((folder / "runs" / "table" / "table.json").read_text())
    mae = {row["system"]: row["value"] for row in figures if row["metric"] == "MAE"}
    golds = json.loads((folder / "dev_outputs.json").read_text())["golds"]
    ratings = [int(gold["output"]) for gold in golds]
    always_the_same = min(
        sum(abs(rating - gold) for gold in ratings) / len(ratings) for rating in range(1, 6)
    )
    assert mae["bm25"] < mae["contriever"], "which has learnt nothing"
    assert mae["ropg-kd"] < min(mae["none"], always_the_same)
    assert max(mae["ropg-kd"], mae["ropg-rl"]) < mae["contriever"], "above the encoder that they start from"
    assert mae["oracle"] == min(mae.values())


def test_a_second_call_in_the_same_folder_is_refused(config, distributed, monkeypatch):
    """It takes the step at which the first one is for interrupted, and removes what that one is writing."""
    calls = []

    def run(command, context):
        calls.append(command)
        with pytest.raises(UserError, match="another call is at work there"):
            run_pipeline(config(), context)
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "run_command", run)
    for count in (1, 2):  # the first has ended, however
        with pytest.raises(KeyboardInterrupt):
            run_pipeline(config(), distributed)
        assert len(calls) == count


@pytest.mark.parametrize("key", ["lm", "encoder", "scorer"])
def test_a_missing_model_is_told_before_any_work(config, distributed, tmp_path, key):
    """The scorer is read at the eighteenth of twenty steps: its name would be found wrong after days."""
    golden = GOLDEN / "models"
    names = {"lm": golden / "t5-tiny", "encoder": golden / "bert-tiny", "scorer": "ropg-rl"}
    names[key] = tmp_path / "none"
    given = [f"models.{one}={name}" for one, name in names.items()]
    with pytest.raises(UserError, match=f"models.{key} '.*none' is neither a local folder"):
        run_pipeline(config("models.tiny=false", *given), distributed)
    assert not (tmp_path / "runs").exists()


def test_missing_questions_are_told_before_any_work(config, distributed, tmp_path):
    """The chain would rank for an hour, and then have no development questions."""
    with pytest.raises(UserError, match="file of questions or outputs not found"):
        run_pipeline(config(f"data.dev_outputs={tmp_path / 'none.json'}"), distributed)
    assert not (tmp_path / "runs").exists()
