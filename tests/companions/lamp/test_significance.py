"""Intervals and paired tests, in numbers worked out by hand."""

import math

import numpy as np
import pytest

from companions.lamp.metrics import compare
from companions.lamp.significance import intervals, mcnemar, p_value, paired_t_test
from companions.lamp.tasks import task_of

RATING, CITATION = task_of("LaMP_3"), task_of("LaMP_1")


def test_mcnemar_looks_at_the_questions_where_the_systems_differ():
    """With those that both answer alike, a real difference of a few questions would drown."""
    # 1 of 6 differing answers is the first system's: 2 * (1 + 6) / 2^6
    first = np.array([True] * 50 + [True] + [False] * 5)
    second = np.array([True] * 50 + [False] + [True] * 5)
    assert mcnemar(first, second) == pytest.approx(14 / 64)
    assert mcnemar(first, first) == 1


def test_the_t_test_is_paired():
    """Unpaired, what differs between questions hides what differs between systems."""
    first, second = np.array([1.0, 5.0, 9.0]), np.array([2.0, 7.0, 12.0])
    # differences 1, 2, 3: t = 2 / (1 / sqrt(3)) = 3.4641 with 2 degrees; p = 1 - t / sqrt(t^2 + 2)
    assert paired_t_test(first, second) == pytest.approx(1 - math.sqrt(12 / 14))
    assert paired_t_test(first, first) == 1
    assert paired_t_test(first, first + 1) == pytest.approx(0, abs=1e-12)
    assert math.isnan(paired_t_test(first[:1], second[:1]))


def test_the_test_is_the_metrics_own():
    """A t-test of answers that are right or wrong is not the papers'."""
    golds = ["[1]"] * 8
    right, wrong = compare(CITATION, golds, golds), compare(CITATION, ["[2]"] * 8, golds)
    assert p_value("accuracy", right, wrong) == p_value("f1", right, wrong) == pytest.approx(2 / 2**8)
    good = compare(RATING, ["1", "2", "3"], ["1", "2", "3"])
    poor = compare(RATING, ["2", "4", "3"], ["1", "2", "3"])
    expected = paired_t_test(np.zeros(3), np.array([1.0, 2.0, 0.0]))
    assert p_value("mae", good, poor) == p_value("rmse", good, poor) == expected
    with pytest.raises(ValueError, match="not the same questions: 3 and 1"):
        p_value("mae", good, compare(RATING, ["1"], ["1"]))


def test_intervals_hold_the_metric_and_shrink_with_the_questions():
    """An interval that does not depend on how many questions there are says nothing of how sure a number is."""
    generator = np.random.default_rng(3)

    def width(count):
        predictions = generator.choice(["1", "2", "3", "4", "5"], count).tolist()
        scored = compare(RATING, predictions, ["3"] * count)
        found = intervals(scored, seed=1)
        assert found == intervals(scored, seed=1) != intervals(scored, seed=2)
        for name, (low, high) in found.items():
            assert low < scored.corpus()[name] < high
        return found["mae"][1] - found["mae"][0]

    few, many = width(50), width(5000)
    # 2 * 1.96 * sd / sqrt(N), where the errors 0, 1, 1, 2, 2 have sd 0.748
    assert few == pytest.approx(2 * 1.96 * 0.748 / math.sqrt(50), rel=0.3)
    assert many == pytest.approx(2 * 1.96 * 0.748 / math.sqrt(5000), rel=0.1)


def test_the_number_of_resamples_is_kept():
    """A last part of the resamples that is lost or whole would change the interval."""
    scored = compare(CITATION, ["[1]", "[2]", "[1]"], ["[1]"] * 3)
    for resamples in (1, 99, 101):
        seen = []
        whole = type(scored)(
            scored.values, lambda means, seen=seen: seen.append(len(means)) or {"x": means[:, 0]}
        )
        intervals(whole, resamples)
        assert seen == [resamples]
