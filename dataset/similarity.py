"""Which personas of a batch are similar: the target of the contrastive loss (docs/method.md, section 4)."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from sacrebleu.metrics import BLEU


@lru_cache(maxsize=1)
def _sentence_bleu() -> BLEU:
    return BLEU(effective_order=True)


@lru_cache(maxsize=1 << 18)
def persona_bleu(hypothesis: str, reference: str) -> float:
    """Sentence-BLEU (sacreBLEU, effective order, 0 to 100) of one persona against another.

    Each pair is computed once per process: a persona comes back with every turn and in every epoch.
    """
    return _sentence_bleu().sentence_score(hypothesis, [reference]).score


def fixed_pairs(size: int) -> np.ndarray:
    """Pairs i < j of the examples of a file that depend on nothing but its length: int64 [2, P].

    Every example with the next one, which mostly has the same persona, and every example with another one
    drawn at random, which mostly has not: P = 2 * size - 1, or 0 for a file of one example.
    """
    if size < 2:
        return np.zeros((2, 0), dtype=np.int64)
    numbers = np.arange(size)
    # RandomState's numbers are the same in every release of NumPy
    others = (numbers + np.random.RandomState(0).randint(1, size, size)) % size
    pairs = np.concatenate([[numbers[:-1], numbers[1:]], [numbers, others]], axis=1)
    return np.sort(pairs, axis=0)


PairLabels = Callable[[Sequence[str]], list[float]]
"""personas of B examples -> labels of all pairs i < j, in the order (0, 1), (0, 2), .. (1, 2), .."""


class BleuPairs:
    """+1 for pairs i < j whose persona_bleu(i, j) is above `threshold`, else -1."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def __call__(self, personas: Sequence[str]) -> list[float]:
        """Labels of all pairs i < j, in the order (0, 1), (0, 2), .. (1, 2), .."""
        return [self.label(first, other) for i, first in enumerate(personas) for other in personas[i + 1 :]]

    def label(self, first: str, second: str) -> float:
        """The label of one pair."""
        return 1.0 if persona_bleu(first, second) > self.threshold else -1.0
