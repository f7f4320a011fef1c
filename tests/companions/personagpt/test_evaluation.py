"""Evaluation of a run folder: what it writes, whose replies it generates, and which runs and settings it refuses."""

import json
import math
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaml

from companions.personagpt import evaluate, register_personagpt
from companions.personagpt.evaluation import RESULT, EvaluateOptions, evaluate_run
from companions.personagpt.prepared import prepare, prepared_text, read_persona_examples
from companions.personagpt.sample.generate import FOLDER, VALID_NAME
from models.configuration import build_config
from models.decoding import decode
from models.decoding.runs import read_run_config
from tests.companions.personagpt.golden import GOLDEN
from tests.conftest import SHARED, head_of
from tests.helpers import json_rows
from tests.kills import Moment, run_killed
from utils.errors import UserError
from utils.metrics import score

OFFICIAL = SHARED / "convai2" / "valid_both_original_no_cands.txt"
QUICK = EvaluateOptions(openings=3, flags={"decoding": {"max_new_tokens": 8}})


@pytest.fixture
def run(tmp_path) -> Path:
    """A run folder around the LM of the golden cases, with three dialogues to validate on."""
    register_personagpt()
    folder = tmp_path / "run"
    shutil.copytree(GOLDEN / "lm", folder / "model")
    valid = tmp_path / "valid.txt"
    valid.write_text(head_of(FOLDER / VALID_NAME, 3), encoding="utf-8")
    config = {
        "model": {"model_type": "personagpt", "model_name": "gone"},
        "dataset": {"valid": str(valid), "max_utterances": 6},
    }
    (folder / "config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder


def report(run: Path) -> dict:
    """What was written about a run."""
    return json.loads((run / RESULT).read_text(encoding="utf-8"))


def test_everything_is_written_and_agrees(run, distributed, capsys):
    """Figures of another model, file or set of replies than the report says would be published as the run's."""
    evaluate_run(run, distributed, QUICK)
    found, rows = report(run), json_rows(run / "evaluation_result.jsonl")
    config = read_run_config(run)
    everyone = read_persona_examples(config.dataset.valid, config)
    assert found["answers"]["answers"] == len(everyone) == 18
    assert len(rows) == found["replies"]["number"] > 9, "all turns of the modelled speaker, without a cap"
    assert found["replies"]["f1_parlai"] == score(rows, ["f1_parlai"])["f1_parlai"].value
    assert found["decoding"]["max_new_tokens"] == 8
    assert found["decoding"]["speakers"] == "self"
    steering = found["action_codes"]
    assert (steering["openings"], len(steering["goals"]), steering["action_prompt"]) == (3, 11, "B")
    assert {"goal", "keywords", "steered", "others", "unsteered"} == set(steering["goals"][0])
    screen = capsys.readouterr().out
    for text in (
        "legacy perplexity",
        "teacher-forced F1",
        "token perplexity",
        "F1 (ParlAI)",
        "ask about pets.",
    ):
        assert text in screen
    assert f"{found['answers']['token_perplexity']:.2f}" in screen


@pytest.mark.parametrize(
    "stage",
    ["teacher_forcing:predict_targets", pytest.param("following:generate_replies", marks=pytest.mark.long)],
)
@pytest.mark.long
def test_a_killed_evaluation_goes_on_where_it_was(run, distributed, monkeypatch, survived, stage):
    """Three jobs in one command: the hours of those that were done would be spent again."""
    options = replace(QUICK, batch_size=4)
    moment = Moment(f"companions.personagpt.{stage}", 2)
    ending = run_killed(partial(evaluate_run, run, distributed, options), moment)
    assert ending.killed, ending.printed
    assert not (run / RESULT).exists()
    monkeypatch.setattr(decode, "generate_replies", lambda *_: pytest.fail("it was decoded again"))
    evaluate_run(run, distributed, options)
    found = report(run)
    assert not list(run.glob("*.part"))
    for path in (RESULT, "evaluation_result.txt"):
        (run / path).unlink()
    monkeypatch.undo()
    evaluate_run(run, distributed, options)
    assert report(run) == found
    survived("kills")


def test_the_token_perplexity_is_that_of_the_result_file(run, distributed):
    """Two programs that count the same tokens otherwise would each be right about something else."""
    both = EvaluateOptions(speakers="both", openings=0, flags={"decoding": {"max_new_tokens": 2}})
    evaluate_run(run, distributed, replace(both, assignments=("dataset.max_utterances=50",)))
    rows = json_rows(run / "evaluation_result.jsonl")
    found = report(run)
    assert found["action_codes"] is None
    assert sum(row["nll_tokens"] for row in rows) == found["answers"]["tokens"]
    perplexity = math.exp(sum(row["nll"] for row in rows) / found["answers"]["tokens"])
    assert found["answers"]["token_perplexity"] == pytest.approx(perplexity, rel=1e-5)


def test_replies_of_other_speakers_are_not_taken_for_those_asked_for(run, distributed, monkeypatch):
    """Scores of half the replies would stand under the name of all; told last, it costs the hour of scoring."""
    evaluate_run(run, distributed, QUICK)
    monkeypatch.setattr("companions.personagpt.evaluation.score_answers", None)
    with pytest.raises(UserError, match="speakers"):
        evaluate_run(run, distributed, replace(QUICK, speakers="both"))


def test_a_prepared_file_is_evaluated_as_it_is(run, distributed):
    """What preprocess_dataset wrote has its own cap; asking it for more would be refused, after an hour of scoring."""
    config = read_run_config(run)
    prepared = run / "valid.jsonl"
    prepared.write_text(prepared_text(prepare(config.dataset.valid, config)[0], config), encoding="utf-8")
    evaluate_run(run, distributed, replace(QUICK, valid_path=str(prepared), openings=0))
    assert report(run)["replies"]["number"] == 9
    assert report(run)["answers"]["answers"] == 18


@pytest.mark.skipif(not OFFICIAL.is_file(), reason="the data of ConvAI2 is not here")
def test_the_official_validation_file_has_its_official_count():
    """An F1 over other replies than ConvAI2's 7,801 is not to be compared with its leaderboard."""
    register_personagpt()
    model = {"model_type": "personagpt", "model_name": "none"}

    def count(**dataset: object) -> int:
        config = build_config([("test", {"model": model, "dataset": dataset})])
        return len(read_persona_examples(str(OFFICIAL), config))

    assert count(speakers="self", max_utterances=1000) == 7801
    assert count() == 15592


def test_a_run_of_another_type_is_refused(run, distributed):
    """Its texts would be encoded in a layout that its model has never seen."""
    (run / "config.yml").write_text("model: {model_type: textual, model_name: x}", encoding="utf-8")
    with pytest.raises(UserError, match="textual, not of PersonaGPT"):
        evaluate_run(run, distributed, QUICK)


def test_the_command_hands_its_flags_on(monkeypatch, run):
    """A flag that is read and dropped gives figures under settings that nobody asked for."""
    given = []
    monkeypatch.setattr("utils.liveness.end_distributed", lambda: None)  # the tests' own group stays
    monkeypatch.setattr("companions.personagpt.evaluation.evaluate_run", lambda *args: given.append(args))
    words = ["--speakers=both", "--openings=7", "--goals=g.txt", "--max_new_tokens=9", "--do_sample=yes"]
    words += [
        "--top_k=10",
        "--skip_exists=no",
        "--seed=5",
        "--valid_path=v.txt",
        "--set",
        "model.action_prompt=A",
    ]
    monkeypatch.setattr("sys.argv", ["evaluate", f"--model_path={run}", *words])
    evaluate.main()
    ((folder, _, options),) = given
    assert folder == run
    assert options == EvaluateOptions(
        valid_path="v.txt",
        speakers="both",
        skip_exists=False,
        openings=7,
        assignments=("model.action_prompt=A",),
        flags={
            "decoding": {"max_new_tokens": 9, "do_sample": True, "top_k": 10},
            "dataset": {"goals": "g.txt"},
        },
        seed=5,
    )
