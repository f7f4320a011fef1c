"""Weights that are no run: the folder that is made for their evaluation, and the figures in it."""

import json
import shutil
from pathlib import Path

import pytest

from companions.personagpt.evaluation import RESULT, EvaluateOptions, evaluate_run
from companions.personagpt.sample.generate import FOLDER, VALID_NAME
from companions.personagpt.weights import folder_to_evaluate
from models.decoding.runs import read_run_config
from tests.companions.personagpt.golden import GOLDEN
from tests.conftest import head_of
from tests.helpers import json_rows
from tests.run_commands import Command, run_commands
from utils.errors import UserError

LM = GOLDEN / "lm"
NAMED = (f"model.model_name={LM}",)


@pytest.fixture
def valid(tmp_path) -> Path:
    """Two dialogues to validate on."""
    path = tmp_path / "valid.txt"
    path.write_text(head_of(FOLDER / VALID_NAME, 2), encoding="utf-8")
    return path


@pytest.mark.parametrize(("source", "assignments"), [(str(LM), ()), (None, NAMED)])
def test_weights_are_evaluated_as_a_run(source, assignments, valid, tmp_path, distributed):
    """Figures of the published LM, to set one's own beside, could not be had without training it."""
    before = sorted(LM.iterdir())
    given = (*assignments, "model.action_prompt=A")
    folder = folder_to_evaluate(source, str(tmp_path / "out" / "it"), given, distributed)
    assert folder == tmp_path / "out" / "it"
    assert read_run_config(folder).model.action_prompt == "A"
    options = EvaluateOptions(valid_path=str(valid), openings=0, flags={"decoding": {"max_new_tokens": 3}})
    evaluate_run(folder, distributed, options)
    found = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    run = tmp_path / "run"  # the same LM as a run
    shutil.copytree(LM, run / "model")
    (run / "config.yml").write_text("model: {model_type: personagpt, model_name: gone}", encoding="utf-8")
    evaluate_run(run, distributed, options)
    assert found["answers"] == json.loads((run / RESULT).read_text(encoding="utf-8"))["answers"]
    assert json_rows(folder / "evaluation_result.jsonl") == json_rows(run / "evaluation_result.jsonl")
    assert sorted(LM.iterdir()) == before, "nothing is written beside the weights"
    assert folder_to_evaluate(source, str(folder), given, distributed) == folder, "once more"
    assert folder_to_evaluate(str(folder), None, (), distributed) == folder, "it is a run now"


def test_what_is_no_place_for_results_is_refused(tmp_path, distributed, lm_folder):
    """Figures of one LM in the folder of another would be taken for the other's."""

    def told(source, out=None, assignments=()):
        with pytest.raises(UserError) as caught:
            folder_to_evaluate(source, out, assignments, distributed)
        return str(caught.value)

    run = folder_to_evaluate(str(LM), str(tmp_path / "run"), (), distributed)
    assert told(str(lm_folder("gpt2")), str(run)).startswith(f"--out {run}: its LM is {LM.resolve()}, not ")
    assert "whose results lie in its own folder" in told(str(run), str(tmp_path / "other"))
    assert "is a run, with an LM of its own" in told(str(run), None, NAMED)
    assert told(str(LM)) == f"{LM} is no run: --out=FOLDER says where its results go"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert told(str(empty), str(tmp_path / "new")).startswith(
        f"{empty}: neither a run folder (config.yml) nor"
    )
    assert "model.model_name is missing" in told(None, str(tmp_path / "new"))
    (tmp_path / "file").touch()
    assert "file" in told(str(LM), str(tmp_path / "file"))
    assert not (tmp_path / "new").exists()


def test_rows_that_are_drawn_are_told_and_repeated(lm_folder, valid, tmp_path, distributed, capsys):
    """An LM without the special tokens is scored and decoded with other rows each time, on each rank its own."""
    options = EvaluateOptions(valid_path=str(valid), openings=2, flags={"decoding": {"max_new_tokens": 4}})
    found = []
    for name in ("first", "second"):
        folder = folder_to_evaluate(str(lm_folder("gpt2")), str(tmp_path / name), (), distributed)
        evaluate_run(folder, distributed, options)
        found.append(
            (json.loads((folder / RESULT).read_text()), json_rows(folder / "evaluation_result.jsonl"))
        )
    assert found[0] == found[1]
    assert "automatic choice: 6 rows drawn at random" in capsys.readouterr().out


def test_the_tokens_of_answers_and_replies_meet_the_same_rows(lm_folder, valid, tmp_path, distributed):
    """The teacher-forced figures would be those of another LM than the perplexity of the result file."""
    both = ("dataset.max_utterances=50",)
    folder = folder_to_evaluate(str(lm_folder("gpt2")), str(tmp_path / "out"), both, distributed)
    options = EvaluateOptions(
        valid_path=str(valid), speakers="both", openings=2, flags={"decoding": {"max_new_tokens": 2}}
    )
    evaluate_run(folder, distributed, options)
    answers = json.loads((folder / RESULT).read_text())["answers"]
    rows = json_rows(folder / "evaluation_result.jsonl")
    nll = sum(row["nll"] for row in rows) / answers["tokens"]
    assert answers["token_perplexity"] == pytest.approx(2.718281828459045**nll, rel=1e-5)


@pytest.mark.slow
@pytest.mark.long
def test_two_ranks_write_what_one_does(lm_folder, valid, tmp_path):
    """A rank that scores an LM of its own, or a reply that no rank made, changes the figures in silence."""
    base = str(lm_folder("gpt2"))

    def command(out: Path, ranks: int) -> Command:
        flags = [f"--model_path={base}", f"--out={out}", f"--valid_path={valid}", "--openings=3"]
        words = ["-m", "companions.personagpt.evaluate", *flags, "--max_new_tokens=4", "--batch_size=4"]
        return Command(words, ranks=ranks)

    one, two = tmp_path / "one", tmp_path / "two"
    for done in run_commands([command(one, 1), command(two, 2)], tmp_path / "printed"):
        assert done.status == 0, done.output
    assert json_rows(two / "evaluation_result.jsonl") == json_rows(one / "evaluation_result.jsonl")
    reports = [json.loads((folder / RESULT).read_text()) for folder in (one, two)]
    assert reports[0]["action_codes"] == reports[1]["action_codes"]
    for name, value in reports[0]["answers"].items():
        assert value == (pytest.approx(reports[1]["answers"][name]) if isinstance(value, float) else value), (
            name
        )
