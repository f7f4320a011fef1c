"""Orders of a user's profile items as pure functions: positions in the profile, best first.

Ties are broken in one way everywhere: of equal items, the one that stands later in the file comes first.
"""

import random
from collections.abc import Sequence

import numpy as np


def best_first(scores: Sequence[float] | np.ndarray) -> list[int]:
    """Positions of scores [N] from the highest to the lowest; of equal scores the later one first."""
    return np.argsort(np.asarray(scores), kind="stable")[::-1].tolist()


def newest_first(dates: Sequence[tuple[int, ...]]) -> list[int]:
    """Positions of dates [N], each as its numbers, newest first; of equal dates the later one first."""
    return sorted(range(len(dates)), key=lambda position: dates[position])[::-1]


def shuffled(count: int, seed: int, question: str) -> list[int]:
    """A random order of `count` positions, the same for a seed and the id of a question wherever it stands."""
    order = list(range(count))
    random.Random(f"{seed} {question}").shuffle(order)
    return order


def alternating(first: Sequence[int], second: Sequence[int]) -> list[int]:
    """Two orders of the same positions in turn: the best of `first`, then the best of `second` that is left, ..."""
    turns = [position for pair in zip(first, second, strict=True) for position in pair]
    return list(dict.fromkeys(turns))
