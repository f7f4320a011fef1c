"""The token budget of prompts, in numbers worked out by hand."""

import pytest

from companions.lamp.budget import Costs, item_limits


def limits(input_tokens, fields, overheads, reserved=1, max_length=512, special=1, released=False):
    """`item_limits` of some counts."""
    return item_limits(Costs(input_tokens, fields, overheads, reserved), max_length, special, released)


@pytest.mark.parametrize(
    ("input_tokens", "max_length", "share"),
    [
        (100, 512, 101),  # M = 412
        (400, 512, 49),  # M = 512 - floor(0.6 * 512) = 205
        (300, 256, 24),  # M = 103
    ],
)
def test_the_share_of_an_item(input_tokens, max_length, share):
    """A profile that takes the input's room cuts the question off the prompt's end."""
    assert limits(input_tokens, [999] * 4, [0] * 4, max_length=max_length) == [share] * 4


def test_what_an_item_leaves_over_goes_to_the_next_ones():
    """Short items would leave a quarter of the prompt empty while long ones are cut."""
    # P = (100 - 20 - 1 - 4) // 3 = 25; of the first 25 - 10 - 5 = 10 are left
    assert limits(20, [10, 50, 50], [5, 5, 5], max_length=100) == [None, 30, 20]


def test_an_input_gives_up_its_share_until_the_items_fit():
    """One long title would throw out the whole profile."""
    # 0.6: M = 40, P = 39; with a rest of 45 tokens that is too little. 0.5: M = 50, P = 49, X of 4
    assert limits(90, [50], [45], max_length=100) == [4]
    assert limits(90, [50], [98], max_length=100) == [1]  # share 0: P = 99
    assert limits(90, [50], [99], max_length=100) is None
    assert limits(10, [], [], max_length=100) is None


def test_a_limit_below_the_special_tokens_is_a_failed_try():
    """The tokenizer then cuts nothing: an item of 5,000 tokens would stand whole in a prompt of 100."""
    # 0.6: limit 39 - 39 = 0; 0.5: 10
    assert limits(90, [5000], [39], max_length=100) == [10]
    assert limits(90, [5000], [39], max_length=100, released=True) == [None]
    # 0.6: P = 18, and after 5,000 tokens nothing is left for the second item; 0.5: P = 23
    assert limits(90, [5000, 9], [18, 0], max_length=100, released=True) == [5, None]
