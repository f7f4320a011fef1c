"""Which personas of a batch are similar: the target of the contrastive loss (docs/method.md, section 4)."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from sacrebleu.metrics import BLEU
from scipy.sparse import csr_array

_ORDERS = 4  # BLEU counts n-grams of 1 to 4 tokens
_CHUNK = 4096  # pairs at once: bounds the memory for a whole file
_ROUNDING = 1e-9  # the arithmetic of `pair_bleu` differs from sacreBLEU's in the last digits, about 1e-13


@lru_cache(maxsize=1)
def _sentence_bleu() -> BLEU:
    return BLEU(effective_order=True)


def persona_bleu(hypothesis: str, reference: str) -> float:
    """Sentence-BLEU (sacreBLEU, effective order, 0 to 100) of one persona against another."""
    return _sentence_bleu().sentence_score(hypothesis, [reference]).score


def pair_bleu(personas: Sequence[str], pairs: np.ndarray) -> np.ndarray:
    """`persona_bleu` of many pairs at once, equal to 1e-9; a hundred times as fast.

    Args:
        personas: U texts.
        pairs: int64 [2, P]; column (i, j) asks for the score of personas[i] against personas[j].

    Returns:
        Scores, float64 [P].
    """
    scores = [np.zeros(0)]
    for start in range(0, pairs.shape[1], _CHUNK):
        used, places = np.unique(pairs[:, start : start + _CHUNK], return_inverse=True)
        lengths, counts = _ngram_counts([personas[number] for number in used])
        scores.append(_bleu(lengths, counts, *places.reshape(2, -1)))
    return np.concatenate(scores)


def _ngram_counts(personas: Sequence[str]) -> tuple[np.ndarray, csr_array]:
    """Tokens of each persona [U], and which n-grams it has: 0 or 1 [4 * U, columns].

    The n-grams of n tokens of persona i are in row (n - 1) * U + i. The t-th occurrence of an n-gram in a persona has
    a column of its own, so that two rows share as many ones as BLEU counts matches: the lower of their counts.
    """
    tokenize = _sentence_bleu().tokenizer  # keeps its last 65,536 results
    texts = [tokenize(persona.rstrip()).split() for persona in personas]
    size, lengths = len(texts), np.array([len(text) for text in texts])
    words = [word for text in texts for word in text]
    numbers = {word: number for number, word in enumerate(dict.fromkeys(words))}
    tokens = np.array([numbers[word] for word in words], dtype=np.int64)
    owners = np.repeat(np.arange(size), lengths)
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(
        len(tokens)
    )  # of its persona, from this token on
    grams, starts = tokens, np.arange(len(tokens))
    rows, columns = [], []
    for order in range(_ORDERS):
        if order:  # an n-gram is the one of n - 1 tokens at the same place, and the token after it
            kept = left[starts] > order
            starts = starts[kept]
            grams = grams[kept] * len(numbers) + tokens[starts + order]
            grams = np.unique(grams, return_inverse=True)[1]  # numbered anew, so that they stay small
        rows.append(order * size + owners[starts])
        columns.append(_occurrence(owners[starts] * len(tokens) + grams) * len(tokens) + grams)
    place = np.concatenate(rows), np.concatenate(columns)
    ones = np.ones(len(place[0]), dtype=np.int32)
    return lengths, csr_array((ones, place), shape=(_ORDERS * size, place[1].max(initial=0) + 1))


def _occurrence(keys: np.ndarray) -> np.ndarray:
    """How often each key has come before: [0, 0, 1, 0] for [5, 7, 5, 3]."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    is_first = np.ones(len(keys), dtype=bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    places = np.arange(len(keys))
    before = np.empty_like(places)
    before[order] = places - np.maximum.accumulate(np.where(is_first, places, 0))
    return before


def _bleu(
    lengths: np.ndarray, counts: csr_array, hypotheses: np.ndarray, references: np.ndarray
) -> np.ndarray:
    """Scores [P] of hypotheses against references [P], with effective order and sacreBLEU's smoothing `exp`."""
    rows = np.arange(_ORDERS)[:, None] * len(lengths)
    left, right = ((rows + numbers).ravel() for numbers in (hypotheses, references))
    matches = counts[left].multiply(counts[right]).sum(axis=1).reshape(_ORDERS, -1)  # [4, P]
    totals = np.maximum(
        lengths[hypotheses] - np.arange(_ORDERS)[:, None], 0
    )  # [4, P] n-grams of the hypothesis
    possible = totals > 0
    missed = possible & (matches == 0)
    # each order without a match counts half of what the last one did, beginning with half a match
    smoothed = np.where(missed, 0.5 ** np.cumsum(missed, axis=0), matches)
    precisions = np.where(possible, 100.0 * smoothed / np.maximum(totals, 1), 1.0)
    means = np.log(precisions).sum(axis=0) / np.maximum(possible.sum(axis=0), 1)
    # a hypothesis that is shorter than the reference is penalised
    brevity = np.minimum(1 - lengths[references] / np.maximum(lengths[hypotheses], 1), 0.0)
    return np.where(matches.any(axis=0), np.exp(brevity) * np.exp(means), 0.0)


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
        return self.labels(personas, np.stack(np.triu_indices(len(personas), k=1))).tolist()

    def labels(self, personas: Sequence[str], pairs: np.ndarray) -> np.ndarray:
        """The labels of some pairs of n personas: int64 [2, P] -> float32 [P]."""
        distinct = list(dict.fromkeys(personas))
        numbers = {persona: number for number, persona in enumerate(distinct)}
        of_distinct = np.array([numbers[persona] for persona in personas], dtype=np.int64)[pairs]
        scores = pair_bleu(distinct, of_distinct)
        for near in np.flatnonzero(np.abs(scores - self.threshold) < _ROUNDING):
            first, second = of_distinct[:, near]
            scores[near] = persona_bleu(distinct[first], distinct[second])
        return np.where(scores > self.threshold, 1.0, -1.0).astype(np.float32)
