"""What the choices of a scorer are worth."""

import pytest

from companions.lamp.rspg.batches import compare_outputs
from companions.lamp.rspg.data import Row
from companions.lamp.rspg.inference import Summary, summary_of
from companions.lamp.tasks import task_of

TASK = task_of("LaMP-3")


def row(name, gold, outputs, utilities):
    """A question under three strategies."""
    return Row(name, gold, ("none", "bm25", "recency"), ("p",) * 3, outputs, utilities)


# the chosen one is the best, among the best ones, and the worst
CHOICES = [
    (row("q1", "5", ("5", "1", "3"), (1.0, 0.0, 0.5)), 0),
    (row("q2", "1", ("5", "1", "1"), (0.0, 1.0, 1.0)), 2),
    (row("q3", "3", ("3", "1", "2"), (1.0, 0.0, 0.5)), 1),
]


def test_a_wrong_choice_is_no_success():
    """A success rate of 1 and a regret of 0 are what every scorer would have."""
    parts = [summary_of([one], compare_outputs("file", TASK, [one[0]], False)) for one in CHOICES]
    for summary in (
        sum(parts, start=Summary()),
        summary_of(CHOICES, compare_outputs("file", TASK, [one for one, _ in CHOICES], False)),
    ):
        report = summary.report(TASK, CHOICES[0][0].strategies)
        assert report["questions"] == 3
        assert report["success_rate"] == pytest.approx(2 / 3)
        assert report["regret"] == pytest.approx(1 / 3)
        assert report["share"] == pytest.approx(dict.fromkeys(("none", "bm25", "recency"), 1 / 3))
        mae = {name: report[name]["MAE"] for name in ("chosen", "oracle", "worst")}
        assert mae == pytest.approx({"chosen": 2 / 3, "oracle": 0, "worst": 10 / 3})
        alone = {name: metrics["MAE"] for name, metrics in report["strategies"].items()}
        assert alone == pytest.approx({"none": 4 / 3, "bm25": 2, "recency": 1})
