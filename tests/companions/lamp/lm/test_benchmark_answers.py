"""The benchmark of feedback and evaluation itself: all ways give the same."""

from itertools import islice

from tests.companions.lamp.golden import GOLDEN
from tests.companions.lamp.lm.benchmark_answers import compare, sample_rows


def test_both_ways_answer_alike(distributed):
    """Nothing else calls it: after a change it would fail, or compare the speed of two other things."""
    found = compare(islice(sample_rows(), 2), str(GOLDEN / "models" / "t5-tiny"), 3, 64, distributed)
    assert (found["feedback"]["prompts"], found["evaluation"]["prompts"]) == (12, 2)
    assert (found["feedback"]["equal"], found["evaluation"]["equal"]) == ("3 of 3", "2 of 2")
