"""What the release does otherwise: its updates."""

import pytest

from companions.personagpt.released import WholeUpdates, shuffled
from utils.errors import UserError


def test_what_an_epoch_leaves_over_comes_into_the_next_ones_first_update():
    """A smaller last update, or none for what is left, gives other weights than the release's."""
    orders = [[0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0], [3, 0, 6, 1, 5, 2, 4]]
    sampler = WholeUpdates(7, 3, orders.__getitem__)
    assert list(sampler) == [[0, 1, 2], [3, 4, 5]]
    sampler.set_epoch(1)
    assert list(sampler) == [[6, 6, 5, 4], [3, 2, 1]]
    sampler.set_epoch(2)
    assert list(sampler) == [[0, 3, 0, 6], [1, 5, 2]]
    assert len(sampler) == 2
    sampler.set_epoch(0)
    assert list(sampler) == [[0, 1, 2], [3, 4, 5]]


def test_a_resumed_epoch_has_its_other_updates():
    """What the epoch before left over would come into the first update after a kill, for the second time."""
    sampler = WholeUpdates(7, 3, shuffled(7, 1, True))
    sampler.set_epoch(1)
    whole = list(sampler)
    for steps in range(3):
        sampler.set_epoch(1, [(1, steps)])
        assert list(sampler) == whole[steps:]


def test_nothing_is_left_over_where_the_updates_fit():
    """An epoch that is even would begin with an update of examples that it had already."""
    sampler = WholeUpdates(6, 3, lambda epoch: range(6))
    sampler.set_epoch(1)
    assert list(sampler) == [[0, 1, 2], [3, 4, 5]]


def test_too_few_examples_for_an_update_are_told():
    """A run that makes no update would end as if it had trained."""
    with pytest.raises(UserError, match=r"training.batch_size: 64 is more than the 7 examples"):
        WholeUpdates(7, 64, lambda epoch: range(7))


def test_orders_are_a_function_of_seed_and_epoch():
    """What is left over of the epoch before is asked for again, and must be the same."""
    order = shuffled(9, 1, shuffle=True)
    assert sorted(order(4)) == list(range(9))
    assert order(4) == shuffled(9, 1, shuffle=True)(4)
    assert len({tuple(order(epoch)) for epoch in range(5)}) == 5
    assert list(shuffled(9, 1, shuffle=False)(3)) == list(range(9))
