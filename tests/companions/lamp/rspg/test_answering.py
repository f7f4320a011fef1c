"""Answers with one call of the LM per question equal those that were collected under every strategy."""

import json
from pathlib import Path

import pytest

from companions.lamp.lm.generate import Answerer
from companions.lamp.lm.kinds import EncoderDecoder
from companions.lamp.rspg.answering import answer
from companions.lamp.rspg.settings import AnsweringConfig
from tests.companions.lamp.golden import GOLDEN, cases, load
from tests.companions.lamp.rspg.data import config_of, golden_scorer
from utils.config.loading import validated
from utils.errors import UserError

SETTINGS = "6_rspg/feedback/settings.json"
NOTES = "7_seq2seq/version_notes.json"  # outputs that another version of the library gives


def saved_scorer(name, kind, folder):
    """The golden scorer as a run folder."""
    golden = load(f"6_rspg/scorer.{name}.{kind}.json")
    config = config_of(name, kind, "released_code").replaced({"dataset": {"max_length_input": 256}})
    scorer = golden_scorer(config, golden["scorer"], golden["strategies"])
    folder.mkdir()
    scorer.save_trained(folder, scorer.trained_state(), scorer.metadata())
    return folder


def config_with(name, run, **dataset):
    """The configuration that the golden outputs were made with."""
    settings = load(SETTINGS)
    task = name.partition("-")[2]
    strategies = []
    for one in settings["strategies_in_order"]:
        file = one["merged_file"] and GOLDEN / one["merged_file"].replace("<task>", task)
        strategies.append(f"{one['name']}={file}:{one['num_retrieved']}" if file else one["name"])
    data = {
        "task": name,
        "scorer": str(run),
        "strategies": ",".join(strategies),
        "max_length": settings["max_length"],
    }
    layers = {
        "model": {"model_name": str(GOLDEN / settings["model"]), "fidelity": "released_code"},
        "dataset": data | dataset,
        "generation": {"num_beams": settings["num_beams"], "max_length": settings["generation_max_length"]},
    }
    return validated([("test", layers)], AnsweringConfig)


@pytest.mark.slow
@pytest.mark.parametrize("path", cases("6_rspg/final_preds.*.Pre.json"))
def test_answers_of_the_chosen_strategy(path, tmp_path, distributed, monkeypatch):
    """A prompt of another strategy than the chosen one, or six calls of the LM instead of one."""
    golden, name = load(path), path.name.split(".")[1]
    asked = []
    batches = Answerer.batches

    def counted(self, examples):
        asked.extend(example.question for example in examples)
        return batches(self, examples)

    monkeypatch.setattr(Answerer, "batches", counted)
    answer(config_with(name, saved_scorer(name, "Pre", tmp_path / "run")), tmp_path / "out", distributed)
    found = json.loads((tmp_path / "out" / "final_preds.json").read_text(encoding="utf-8"))
    assert asked == [row["id"] for row in golden["golds"]]
    assert found["task"] == golden["task"]
    ties = dict.fromkeys(row["id"] for row in golden["golds"])
    for case in load(f"6_rspg/scorer.{name}.Pre.json")["cases"]:
        if case["max_length_input"] == 256:
            ties |= dict(zip(case["ids"], case["chosen_tie_sets"], strict=True))
    notes = load(NOTES)["outputs"] if (GOLDEN / NOTES).is_file() else []
    other = {(note["file"], note["id"]): note["output_transformers_5.23"] for note in notes}
    strategies = load(f"6_rspg/scorer.{name}.Pre.json")["strategies"]
    for row, wanted in zip(found["golds"], golden["golds"], strict=True):
        assert row["id"] == wanted["id"]
        assert row["index"] in (ties[row["id"]] or [wanted["index"]])
        file = f"6_rspg/feedback/{name}/{strategies[row['index']]}/scores.json"
        collected = load(file)[row["id"]]["output"]
        assert row["output"] in (collected, other.get((file, row["id"])))


@pytest.mark.slow
def test_prompts_that_lose_their_end_are_counted(tmp_path, distributed, monkeypatch, capsys):
    """The end of a prompt is its question: the LM answers another one, and nobody is told."""
    found = cases("6_rspg/final_preds.*.Pre.json")
    if not found:
        pytest.skip("no golden case")
    name = Path(found[0].values[0]).name.split(".")[1]
    monkeypatch.setattr(EncoderDecoder, "token_losses", None)  # nothing reads them
    run = saved_scorer(name, "Pre", tmp_path / "run")
    answer(config_with(name, run, max_length=12), tmp_path / "out", distributed)
    rows = json.loads((tmp_path / "out" / "final_preds.json").read_text(encoding="utf-8"))["golds"]
    said = f"{len(rows)} of {len(rows)} prompts were cut to 12 tokens: their end is lost"
    assert said in capsys.readouterr().out


def test_mistakes_are_told_before_the_lm_is_asked(tmp_path, distributed):
    """Strategies that the scorer never saw are chosen by their place alone."""
    found = cases("6_rspg/final_preds.*.Pre.json")
    if not found:
        pytest.skip("no golden case")
    name = Path(found[0].values[0]).name.split(".")[1]
    run = saved_scorer(name, "Pre", tmp_path / "run")
    for change, message in (
        ({"strategies": "none,bm25"}, "the scorer chooses among"),
        ({"strategies": "none,none"}, "'none' is given twice"),
        ({"strategies": "none=nowhere.json"}, "merged file not found: nowhere.json"),
        ({"scorer": str(tmp_path)}, "not the run folder of a trained scorer"),
    ):
        with pytest.raises(UserError, match=message):
            answer(config_with(name, run, **change), tmp_path / "out", distributed)
    post = saved_scorer(name, "Post", tmp_path / "post")
    with pytest.raises(UserError, match="it chooses among outputs"):
        answer(config_with(name, post), tmp_path / "out", distributed)
    files = json.loads(config_with(name, run).model_dump_json())["dataset"]["strategies"].split(",")
    merged = json.loads(Path(files[1].partition("=")[2].rpartition(":")[0]).read_text(encoding="utf-8"))
    (tmp_path / "fewer.json").write_text(json.dumps(merged[1:]), encoding="utf-8")
    files[1] = f"{files[1].partition('=')[0]}={tmp_path / 'fewer.json'}"
    with pytest.raises(UserError, match="the same questions in one order"):
        answer(config_with(name, run, strategies=",".join(files)), tmp_path / "out", distributed)
