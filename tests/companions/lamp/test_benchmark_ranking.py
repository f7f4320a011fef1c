"""The benchmark of ranking itself: both ways rank alike."""

import argparse

from tests.companions.lamp.benchmark_ranking import compare
from tests.companions.lamp.conftest import ENCODER


def test_both_ways_rank_alike(distributed):
    """Nothing else calls it: after a change it would fail, or compare the speed of two other things."""
    args = argparse.Namespace(questions=4, items=6, words=8, per_user=2, encoder=str(ENCODER))
    figures = compare(args, distributed)
    assert (figures["questions"], figures["equal_orders"]) == (4, 1.0)
