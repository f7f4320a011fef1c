"""The benchmark's metrics, against the release and in numbers worked out by hand."""

import math

import pytest

from companions.lamp.metrics import (
    OutputError,
    compare,
    metrics_of_each,
    official_names,
    rating_error,
    training_metrics,
)
from companions.lamp.tasks import task_of
from tests.companions.lamp.golden import cases, load

EXACT = {"rel": 0, "abs": 1e-9}


@pytest.mark.parametrize("path", cases("4_metrics/LaMP-*.json"))
def test_metrics_are_those_of_the_release(path):
    """Numbers that cannot be put beside the paper's prove nothing, whatever they are."""
    golden = load(path)
    task, outputs = task_of(golden["task"]), (golden["predictions"], golden["golds"])
    training = training_metrics(task, *outputs, released=True)
    expected = golden.get("training") or golden["rouge_mean"]
    assert {name: training[name] for name in expected} == pytest.approx(expected, **EXACT)
    if "bleu" in golden:
        assert training["bleu"] == pytest.approx(golden["bleu"], abs=1e-6)
    assert official_names(task, compare(task, *outputs, released=True).corpus()) == pytest.approx(
        golden.get("official") or golden["official_mean"], **EXACT
    )
    alone = official_names(task, compare(task, *outputs, released=True).per_example())
    for name, values in golden["official_per_sample_by_id"].items():
        assert alone[name] == pytest.approx(list(values.values()), **EXACT)
    for name, values in golden.get("rouge_per_sample", {}).items():
        assert compare(task, *outputs).per_example()[name] == pytest.approx(values, **EXACT)


@pytest.mark.parametrize("name", ["LaMP_1", "LaMP_3", "LaMP_4"])
def test_metrics_of_each_example_are_those_of_a_file_of_one(name):
    """Feedback that mixes examples up trains the retriever towards other users' items."""
    predictions = {
        "LaMP_1": ["[1]", "x", " [2] "],
        "LaMP_3": ["5", "x", " 2"],
        "LaMP_4": ["a b", "", "c d e f g "],
    }
    golds = {"LaMP_1": ["[1]", "[2]", "[2]"], "LaMP_3": ["1", "3", "2"], "LaMP_4": ["a c", "b", "c d e f"]}
    task = task_of(name)
    alone = [
        training_metrics(task, [prediction], [gold])
        for prediction, gold in zip(predictions[name], golds[name], strict=True)
    ]
    for found, expected in zip(metrics_of_each(task, predictions[name], golds[name]), alone, strict=True):
        assert found == pytest.approx(expected)
    assert metrics_of_each(task, [], []) == []


@pytest.mark.parametrize(
    ("prediction", "gold", "error"),
    [
        ("x", 3, 2),
        ("x", 4, 3),
        ("4.5", 4, 0.5),
        ("x", 1, 4),
        ("100", 4, 3),
        ("-3", 1, 4),
        ("inf", 5, 4),
        ("nan", 2, 3),
        ("1e400", 5, 4),
    ],
)
def test_what_is_no_rating_counts_as_the_farthest_one(prediction, gold, error):
    """A hundred would outweigh all other questions; clipped to 5 it would be right by luck."""
    assert rating_error(prediction, gold) == error


def test_the_release_lets_numbers_outside_the_scale_pass():
    """Published numbers hold them."""
    assert rating_error("100", 4, released=True) == 96
    assert rating_error("x", 3, released=True) == 2
    for text in ("nan", "-inf"):
        with pytest.raises(ValueError, match="must be finite"):
            rating_error(text, 3, released=True)


def test_errors_of_ratings():
    """Root mean squared error of one large and one small error, by hand."""
    found = training_metrics(task_of("LaMP_3"), ["abc", "5"], ["1", "5"])
    assert found == {"mae": 2.0, "rmse": pytest.approx(math.sqrt(8))}


def test_macro_f1_is_over_all_labels_of_the_task():
    """Over the labels that occur, a file with one movie tag would reach 1."""
    assert training_metrics(task_of("LaMP_2"), ["comedy"], ["comedy"]) == {
        "accuracy": 1,
        "f1": pytest.approx(1 / 15),
    }
    found = training_metrics(task_of("LaMP_1"), ["[1]", "[1]", "foo"], ["[1]", "[2]", "[1]"])
    assert found == {"accuracy": pytest.approx(1 / 3), "f1": 0.25}


def test_rouge_compares_words_as_they_are_but_for_case():
    """With stems, "waiting" for "waited" is right, and all numbers are above the published ones."""
    found = compare(task_of("LaMP_4"), ["Waiting there"], ["waited THERE"]).corpus()
    assert found["rouge-1"] == found["rouge-L"] == 0.5


def test_golds_that_cannot_be_are_told_by_their_place():
    """A wrong gold counts against every system, unseen; an unknown prediction would be right where it is unknown."""
    for name, gold, message in (
        ("LaMP_1", "[3]", r"the gold '\[3\]' is none of the labels \[1\], \[2\]"),
        ("LaMP_3", "6", "the gold '6' is no rating from 1 to 5"),
        ("LaMP_3", "nan", "the gold 'nan' is no rating"),
        ("LaMP_3", "good", "the gold 'good' is no rating"),
    ):
        with pytest.raises(OutputError, match=message) as caught:
            compare(task_of(name), ["[1]", "x"], ["[1]" if name == "LaMP_1" else "1", gold])
        assert caught.value.index == 1
    task = task_of("LaMP_1")
    scored = compare(task, ["[1]", "foo"], ["[1]", "bar"], released=True)
    assert official_names(task, scored.corpus()) == {"accuracy": 1, "f1": 0.5}
