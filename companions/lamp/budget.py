"""How many tokens each profile item may take in a prompt: pure arithmetic on token counts.

The input keeps a share of the prompt's length, which is lowered step by step until all items fit; what an item leaves
over, the next ones may take (LaMP, section 4 and appendix; T(s) counts tokens with special tokens, L is the length).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """Token counts of one prompt, special tokens included."""

    input: int
    """of the question's input"""
    fields: Sequence[int]
    """of each item's long field, whole"""
    overheads: Sequence[int]
    """of each item's text without its long field"""
    reserved: int
    """kept free for the words between items and input"""


def item_limits(
    costs: Costs, max_length: int, special: int, released: bool = False
) -> list[int | None] | None:
    """How many tokens of each long field are kept, special tokens included; None for all of them.

    Args:
        costs: of n items and the input.
        max_length: L, tokens of the whole prompt.
        special: special tokens that the tokenizer adds to a text.
        released: a limit that leaves no room for the special tokens cuts nothing, as in the release; otherwise the
            try has failed, as with a negative one.

    Returns:
        A limit per item, or None where no share lets all items in: the prompt is the input alone.
    """
    if not costs.fields:
        return None
    for share in _shares():
        profile = max_length - min(costs.input, int(share * max_length))
        limits = _limits(costs, profile, special, released)
        if limits is not None:
            return limits
    return None


def _shares() -> Iterator[float]:
    """0.6, 0.5, .. 0 of the length for the input, as binary floats give them: `int(share * L)` depends on it."""
    share = 0.6
    while share >= 0:
        yield share
        share -= 0.1


def _limits(costs: Costs, profile: int, special: int, released: bool) -> list[int | None] | None:
    """The limits when `profile` tokens are for all items; None when one of them gets too few."""
    count = len(costs.fields)
    per_item = (profile - costs.reserved - 2 * (count - 1)) // count
    carry = 0
    limits: list[int | None] = []
    for field, overhead in zip(costs.fields, costs.overheads, strict=True):
        limit = per_item + carry - overhead
        if limit < (0 if released else special):
            return None
        whole = field <= limit or limit < special
        limits.append(None if whole else limit)
        carry += per_item - (field if whole else limit) - overhead
    return limits
