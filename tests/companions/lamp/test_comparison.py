"""Several systems on the same questions in one table."""

import json

import pytest

from companions.lamp.comparison import compare_systems, table
from companions.lamp.tasks import task_of
from tests.companions.lamp.test_evaluation import outputs, run
from utils.errors import UserError


@pytest.fixture
def files(tmp_path):
    """Golds of LaMP-3, and a poor and a good system."""
    ratings = {
        "golds": ["1", "2", "3", "4"] * 5,
        "poor": ["5", "5", "1", "1"] * 5,
        "good": ["1", "2", "3", "5"] * 5,
    }
    return {name: outputs(tmp_path / f"{name}.json", "LaMP_3", values) for name, values in ratings.items()}


def test_systems_are_compared_with_the_first_one(files):
    """Against the best one, or each against the next, p would answer another question."""
    rows = compare_systems(task_of("LaMP_3"), files["golds"], [files["poor"], files["good"]])
    assert [(row["system"], row["metric"]) for row in rows] == [
        (str(files[name]), metric) for name in ("poor", "good") for metric in ("MAE", "RMSE")
    ]
    poor, _, good, _ = rows
    assert poor["value"] == 3
    assert poor["p"] is None
    assert good["value"] == 0.25
    assert good["low"] < good["value"] < good["high"]
    assert good["p"] < 1e-6
    lines = table(rows).splitlines()
    assert lines[3].startswith(str(files["good"]))
    assert lines[3].endswith("0.0000*")
    assert not lines[1].endswith("*")


def test_the_command_writes_what_it_prints(files, tmp_path, monkeypatch, capsys):
    """Numbers that are copied from a screen are copied wrongly."""
    flags = [
        "--golds_json",
        files["golds"],
        "--task_name",
        "LaMP-3",
        "--preds_json",
        files["poor"],
        files["good"],
    ]
    target = tmp_path / "rows.json"
    assert run("compare_predictions", [*flags, "--output_file", target, "--resamples", 50], monkeypatch) == 0
    rows = json.loads(target.read_text())
    assert len(rows) == 4
    assert capsys.readouterr().out == table(rows) + "\n"
    with pytest.raises(UserError, match="field 'task' is 'LaMP_3', expected LaMP_4"):
        compare_systems(task_of("LaMP_4"), files["golds"], [files["poor"]])


def test_one_question_has_no_test(tmp_path):
    """NaN in a file is no JSON."""
    path = outputs(tmp_path / "x.json", "LaMP_3", ["1"])
    other = outputs(tmp_path / "y.json", "LaMP_3", ["2"])
    rows = compare_systems(task_of("LaMP_3"), path, [path, other])
    assert [row["p"] for row in rows] == [None] * 4
