"""The official evaluation, of one task and of all seven."""

import json
import runpy
import sys
import zipfile

import pytest

from companions.lamp.evaluation import BENCHMARK, compare_files, evaluate_all, evaluate_task
from companions.lamp.tasks import task_of
from tests.companions.lamp.golden import GOLDEN, cases, load
from utils.errors import UserError

EVAL = cases("4_metrics/eval/eval_all.expected.json")
FACTS = [
    pytest.param(path, fact, id=fact["note"])
    for case in cases("4_metrics/facts.json")
    for path in case.values
    for fact in load(path)
]


def outputs(path, task, values):
    """Write an outputs file; values are outputs, with their place as id, or whole records."""
    records = [
        value if isinstance(value, dict) else {"id": str(number), "output": value}
        for number, value in enumerate(values)
    ]
    path.write_text(json.dumps({"task": task, "golds": records}), encoding="utf-8")
    return path


def zipped(path, files):
    """Write a zip archive of names and contents."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def archives(tmp_path):
    """The golden golds and predictions as zip files, the predictions deep in folders."""
    contents = {
        kind: {
            str(path.relative_to(GOLDEN / "4_metrics/eval")): path.read_text("utf-8")
            for path in sorted((GOLDEN / "4_metrics/eval" / kind).rglob("*.json"))
        }
        for kind in ("golds", "preds")
    }
    return {kind: (zipped(tmp_path / f"{kind}.zip", files), files) for kind, files in contents.items()}


def run(module, arguments, monkeypatch):
    """Run a command of the package in this process; its exit status."""
    monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"companions.lamp.{module}", run_name="__main__")
    return ended.value.code


def numbers(metrics):
    """Metrics of all tasks as one level."""
    return {f"{task} {name}": value for task, of_one in metrics.items() for name, value in of_one.items()}


@pytest.mark.parametrize(("path", "fact"), FACTS)
def test_small_cases_are_scored_as_in_the_release(tmp_path, path, fact):
    """Outputs that are no label, no number or not there decide between systems that are nearly equal."""
    golds = outputs(tmp_path / "golds.json", fact["task"], fact["golds"])
    predictions = outputs(tmp_path / "predictions.json", fact["task"], fact["predictions"])
    task = task_of(fact["task_name"])
    if "release_error" in fact:
        with pytest.raises(UserError) as caught:
            evaluate_task(task, golds, predictions, released=True)
        assert "\n" not in str(caught.value)
    elif fact["note"] == "hyphen name is scored as ROUGE":
        assert evaluate_task(task, golds, predictions, released=True) == {"accuracy": 1.0, "f1": 0.5}
    else:
        found = evaluate_task(task, golds, predictions, released=True)
        assert found == pytest.approx(fact["official"], rel=0, abs=1e-9)


@pytest.mark.parametrize("path", EVAL)
def test_all_tasks_are_scored_as_in_the_release(path, archives):
    """A task that is scored with another one's golds shows in no error, only in its number."""
    found = evaluate_all(archives["golds"][0], archives["preds"][0], released=True)
    assert numbers(found) == pytest.approx(numbers(load(path)), rel=0, abs=1e-9)
    assert list(found) == BENCHMARK


@pytest.mark.parametrize("path", EVAL)
def test_the_commands_have_the_flags_of_the_original(path, archives, tmp_path, monkeypatch):
    """Scripts that call the benchmark's own commands would have to be rewritten."""
    kept = tmp_path / "tmp" / "mine.json"
    kept.parent.mkdir()
    kept.write_text("{}")
    released = ["--fidelity", "released_code"]
    flags = [*released, "--golds_zip", archives["golds"][0], "--preds_zip", archives["preds"][0]]
    target = tmp_path / "all.json"
    assert run("eval_all", [*flags, "--temp_dir", kept.parent, "--output_file", target], monkeypatch) == 0
    expected = load(path)
    assert numbers(json.loads(target.read_text())) == pytest.approx(numbers(expected), rel=0, abs=1e-9)
    assert [file.name for file in kept.parent.iterdir()] == [
        "mine.json"
    ]  # the original deletes what is there

    (gold,) = (GOLDEN / "4_metrics/eval/golds").rglob("LaMP_3.json")
    (prediction,) = (GOLDEN / "4_metrics/eval/preds").rglob("LaMP_3.json")
    flags = [*released, "--golds_json", gold, "--preds_json", prediction, "--output_file", target]
    assert run("eval_task", [*flags, "--task_name", "LaMP_3"], monkeypatch) == 0
    assert json.loads(target.read_text()) == pytest.approx(expected["LaMP_3"], rel=0, abs=1e-9)


def test_a_wrong_call_is_one_line(tmp_path, monkeypatch, capsys):
    """A traceback hides which of two files is meant."""
    flags = ["--golds_json", tmp_path / "none.json", "--preds_json", "x", "--output_file", "y"]
    assert run("eval_task", [*flags, "--task_name", "LaMP_1"], monkeypatch) == 1
    assert capsys.readouterr().err == f"error: gold file not found: {tmp_path / 'none.json'}\n"
    assert run("eval_task", [*flags, "--task_name", "LaMP_0"], monkeypatch) == 1
    assert "error: unknown task 'LaMP_0'; did you mean" in capsys.readouterr().err


def test_the_order_of_predictions_does_not_matter(tmp_path):
    """Predictions of several processes come in any order; matched by place, they would be another user's."""
    task, records = (
        task_of("LaMP_4"),
        [{"id": str(number), "output": "word " * number} for number in range(5)],
    )
    golds = outputs(tmp_path / "golds.json", "LaMP_4", records)
    assert evaluate_task(task, golds, outputs(tmp_path / "p.json", "LaMP_4", records[::-1]))["rouge-1"] == 0.8


def test_missing_and_unknown_questions_are_named(tmp_path):
    """Nobody finds the one missing id among 2,500."""
    some = outputs(tmp_path / "some.json", "LaMP_1", ["[1]"] * 2)
    more = outputs(tmp_path / "more.json", "LaMP_1", ["[1]"] * 9)
    task = task_of("LaMP_1")
    with pytest.raises(UserError) as caught:
        compare_files(task, more, some)
    assert str(caught.value) == f"{some}: no output for question '2', '3', '4', '5', '6' and 2 more"
    with pytest.raises(UserError) as caught:
        compare_files(task, some, more)
    assert str(caught.value) == f"{some}: no gold for question '2', '3', '4', '5', '6' and 2 more"


def test_what_counts_in_another_way_is_told(tmp_path, capsys):
    """Of two outputs of one question, and of a rating of 100, nobody would know that they were there."""
    golds = outputs(tmp_path / "golds.json", "LaMP_3", ["4", "2"])
    again = [{"id": "0", "output": "1"}, {"id": "0", "output": "100"}, {"id": "1", "output": "2"}]
    predictions = outputs(tmp_path / "p.json", "LaMP_3", again)
    task = task_of("LaMP_3")
    twice = f"note: {predictions}: question '0' has 2 outputs; of such ones the last counts\n"
    outside = f"note: {predictions}: 1 rating(s) outside 1 to 5 count as"
    assert evaluate_task(task, golds, predictions)["MAE"] == 1.5
    assert capsys.readouterr().err == (
        f"{twice}{outside} the farthest one, unlike in the benchmark's code; see --fidelity\n"
    )
    assert evaluate_task(task, golds, predictions, released=True)["MAE"] == 48
    assert capsys.readouterr().err == f"{twice}{outside} they are; see --fidelity\n"


def test_commands_score_as_training_does(tmp_path, monkeypatch):
    """A system that wins by the metric that trained it loses by one rating of 100 in the official figures."""
    golds = outputs(tmp_path / "golds.json", "LaMP_3", ["4", "2"])
    predictions = outputs(tmp_path / "p.json", "LaMP_3", ["100", "2"])
    flags = ["--golds_json", golds, "--task_name", "LaMP_3", "--preds_json", predictions]
    target = tmp_path / "metrics.json"
    for fidelity, mae in (([], 1.5), (["--fidelity", "released_code"], 48)):
        assert run("eval_task", [*flags, "--output_file", target, *fidelity], monkeypatch) == 0
        assert json.loads(target.read_text())["MAE"] == mae
        assert run("compare_predictions", [*flags, "--output_file", target, *fidelity], monkeypatch) == 0
        assert json.loads(target.read_text())[0]["value"] == mae


def test_a_gold_that_is_no_label_is_named(tmp_path, capsys):
    """By the benchmark's rule it makes any nonsense right, and nobody looks at the golds."""
    golds = outputs(tmp_path / "golds.json", "LaMP_2", ["comedy", "commedy"])
    nonsense = outputs(tmp_path / "nonsense.json", "LaMP_2", ["comedy", "x"])
    assert evaluate_task(task_of("LaMP_2"), golds, nonsense, released=True)["accuracy"] == 1
    assert capsys.readouterr().err == (
        f"note: {golds}: 1 gold(s), such as that of question '1', are no label of LaMP-2; any prediction that is none "
        "either counts as right; see --fidelity\n"
    )
    predictions = outputs(tmp_path / "p.json", "LaMP_2", ["comedy", "comedy"])
    with pytest.raises(UserError, match="question '1': the gold 'commedy' is none of the labels sci-fi,"):
        compare_files(task_of("LaMP_2"), golds, predictions)


def test_stray_files_in_an_archive(archives, tmp_path, capsys):
    """macOS puts a file of its own beside each one, which ended the original with a decoding error."""
    golds, files = archives["golds"]
    stray = {
        "__MACOSX/golds/._LaMP_1.json": "\x00\x05",
        "golds/._LaMP_2.json": "\x00",
        "__MACOSX/x.json": "\x00",
        "readme.txt": "x",
    }
    notes = {"package.json": '{"name": "x"}', "list.json": "[1]"}
    more = zipped(tmp_path / "more.zip", {**files, **stray, **notes})
    assert evaluate_all(golds, more) == evaluate_all(golds, golds)
    told = [line for line in capsys.readouterr().err.splitlines() if "no outputs file" in line]
    assert told == [f"note: {more}/{name} is no outputs file and is not read" for name in notes]


def test_archives_that_cannot_be_scored(archives, tmp_path):
    """Half an hour's upload would be scored on six tasks, or on one of two files of a task."""
    golds, files = archives["golds"]
    first, *others = files
    wrong = {
        "no outputs file of LaMP_1; all seven tasks are needed": {name: files[name] for name in others},
        "LaMP_1 is in .*, too": {**files, "again.json": files[first]},
        "again.json: field 'task': unknown task 'LaMP_8'": {
            **files,
            "again.json": '{"task": "LaMP_8", "golds": []}',
        },
        "again.json:1: not valid JSON": {**files, "again.json": '{"task": "LaMP'},
    }
    for message, contents in wrong.items():
        with pytest.raises(UserError, match=message):
            evaluate_all(golds, zipped(tmp_path / "wrong.zip", contents))
    with pytest.raises(UserError, match="not a readable zip archive: File is not a zip file"):
        evaluate_all(golds, outputs(tmp_path / "x.zip", "LaMP_1", []))
    broken = golds.read_bytes()
    at = broken.index(b"LaMP_1.json") + 40
    (tmp_path / "broken.zip").write_bytes(broken[:at] + bytes(20) + broken[at + 20 :])
    with pytest.raises(UserError, match="not a readable zip archive: "):
        evaluate_all(golds, tmp_path / "broken.zip")
    bomb = zipped(tmp_path / "bomb.zip", {**files, "bomb.json": b" " * (1 << 28)})
    with pytest.raises(UserError, match="bomb.zip: more than 268435456 bytes of JSON"):
        evaluate_all(golds, bomb)
