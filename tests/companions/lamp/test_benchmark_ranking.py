"""The benchmark of ranking itself: both ways rank alike."""

from tests.companions.lamp.benchmark_ranking import agrees, compare, flags


def test_both_ways_rank_alike(distributed):
    """Nothing else calls it: after a change it would fail, or compare the speed of two other things."""
    args = flags().parse_args("--questions 4 --items 6 --words 8 --per_user 2 --runs 1".split())
    figures = compare(args, distributed)
    assert (figures["questions"], figures["equal_orders"]) == (4, 1.0)


def test_only_rounding_may_change_an_order():
    """Another order would be called the same result, or the order of two equal texts another one."""
    scores = {"a": 2.0, "b": 1.0, "c": 1.000001}
    assert agrees(["a", "b", "c"], scores)
    assert agrees(["a", "c", "b"], scores)
    assert not agrees(["b", "a", "c"], scores)
    assert not agrees(["a", "b"], scores)
