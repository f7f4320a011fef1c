"""Orders of profile items: direction, and ties in the one stated way."""

import numpy as np
import pytest

from companions.lamp.rankers.orders import alternating, best_first, newest_first, shuffled


@pytest.mark.parametrize(
    ("scores", "order"),
    [
        ([0.5, 2.0, 1.0], [1, 2, 0]),
        ([1.0, 2.0, 1.0, 2.0], [3, 1, 2, 0]),
        ([], []),
        ([0.0] * 40, [*range(39, -1, -1)]),
    ],
)
def test_of_equal_scores_the_later_comes_first(scores, order):
    """An order that the sorting algorithm happens to leave differs between versions and lengths of a profile."""
    assert best_first(np.array(scores)) == order


def test_the_newest_comes_first_and_of_equal_dates_the_later():
    """Compared as texts, 2012-9 would be newer than 2012-10; a year alone is older than a day of it."""
    dates = [(2012, 9), (2012, 10), (2012,), (2012, 10), (2011, 12, 31)]
    assert newest_first(dates) == [3, 1, 0, 2, 4]
    assert newest_first([]) == []


def test_a_random_order_depends_on_seed_and_question_alone():
    """Drawn from one stream, the orders would change with the number of ranks and with questions put before."""
    order = shuffled(20, 0, "q7")
    assert sorted(order) == list(range(20))
    assert shuffled(20, 0, "q7") == order
    assert shuffled(20, 1, "q7") != order != shuffled(20, 0, "q8")


def test_two_orders_take_turns():
    """Each item once: an item that both orders put first would fill two of the few places in a prompt."""
    assert alternating([2, 0, 1, 3], [3, 2, 1, 0]) == [2, 3, 0, 1]
    assert alternating([], []) == []
