"""Which personas of a batch are alike: the target of the contrastive loss (spec, section 4)."""

from collections.abc import Sequence
from functools import lru_cache

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


class BleuPairs:
    """+1 for pairs i < j whose persona_bleu(i, j) is above `threshold`, else -1."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def __call__(self, personas: Sequence[str]) -> list[float]:
        """Labels of all pairs i < j, in the order (0, 1), (0, 2), .. (1, 2), .."""
        return [
            1.0 if persona_bleu(first, second) > self.threshold else -1.0
            for i, first in enumerate(personas)
            for second in personas[i + 1 :]
        ]
