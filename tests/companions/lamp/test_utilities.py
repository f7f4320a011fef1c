"""Utilities of outputs: higher is better, on every task."""

import pytest

from companions.lamp.tasks import task_of
from companions.lamp.utilities import utility

RATING = task_of("LaMP-3")


@pytest.mark.parametrize(
    ("gold", "errors", "wanted"),
    [
        ("5", (0, 4, 2), (1, 0, 0.5)),
        ("3", (0, 1, 2), (1, 0.5, 0)),
        ("2", (2, 0), (1 / 3, 1)),
        (" 1 ", (4,), (0,)),
    ],
)
def test_an_error_is_measured_by_the_largest_that_the_gold_allows(gold, errors, wanted):
    """A plain error would be maximised, and the worst item taught as the best."""
    values = [utility(RATING, {"mae": error, "accuracy": 9}, gold) for error in errors]
    assert values == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("name", "metrics", "wanted"),
    [
        ("LaMP-1", {"accuracy": 1, "f1": 0.5}, 1.0),
        ("LaMP-2", {"accuracy": 0.0, "f1": 0.5}, 0.0),
        ("LaMP-4", {"rouge-1": 0.25, "rouge-L": 0.5, "bleu": 9.0}, 0.25),
        ("LaMP-7", {"rouge-1": 0.75, "loss": 3.0}, 0.75),
    ],
)
def test_other_metrics_count_as_they_are(name, metrics, wanted):
    """Feedback by another metric than the task's trains for that one."""
    assert utility(task_of(name), metrics, "any text") == wanted


@pytest.mark.parametrize(
    ("name", "metrics", "gold", "message"),
    [
        ("LaMP-4", {"rouge-L": 0.5}, "", "metric 'rouge-1' is missing; a finite number is needed"),
        ("LaMP-4", {"rouge-1": "0.5"}, "", "metric 'rouge-1' is '0.5'; a finite number"),
        ("LaMP-4", {"rouge-1": True}, "", "metric 'rouge-1' is True"),
        ("LaMP-4", {"rouge-1": float("nan")}, "", "metric 'rouge-1' is nan"),
        ("LaMP-4", {"rouge-1": float("inf")}, "", "metric 'rouge-1' is inf"),
        ("LaMP-3", {"mae": 1.0}, "six", "output 'six' is no rating from 1 to 5"),
        ("LaMP-3", {"mae": 1.0}, "6", "output '6' is no rating from 1 to 5"),
    ],
)
def test_what_is_no_utility_is_refused(name, metrics, gold, message):
    """A missing metric that counted as 0 would make the item the worst of its profile."""
    with pytest.raises(ValueError, match=message):
        utility(task_of(name), metrics, gold)
