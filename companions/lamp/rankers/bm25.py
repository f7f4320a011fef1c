"""Okapi BM25 over one profile; the library rank_bm25 gives the scores."""

from collections.abc import Sequence

import numpy as np
from rank_bm25 import BM25Okapi


def bm25_scores(query: str, documents: Sequence[str]) -> np.ndarray:
    """Scores [N] of N documents, with an index of these alone.

    Words are what stands between white space, as they are written. k1 = 1.5 and b = 0.75; the weight of a word in n of
    the N documents is ln(N - n + 0.5) - ln(n + 0.5), and a quarter of the mean weight of all words where that is
    negative. Where no document has a word, all scores are 0. Given to 12 decimals, as sums of the same terms in
    another order differ in the 16th and are equal.
    """
    words = [document.split() for document in documents]
    if not any(words):
        return np.zeros(len(words))  # the library divides by the mean length
    index = BM25Okapi(words)
    # a word of no document adds 0 to every score, at the price of a search in all of them
    return index.get_scores([word for word in query.split() if word in index.idf]).round(12)
