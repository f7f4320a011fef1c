"""Diversity of the generated responses, without regard to the true ones: DIST-1 and DIST-2.

Source: Li et al. 2016, A Diversity-Promoting Objective Function for Neural Conversation Models, section 5.2.
"""

from collections.abc import Sequence

from utils.metrics.registry import Corpus, Unavailable, register

SIGNATURE = (
    "distinct / total {}-grams of whitespace tokens as they are, pooled over all predictions, none across "
    "the border of two, x100; it falls as a corpus grows, so it compares only runs on the same examples"
)


@register("dist_1", direction="higher", level="corpus", signature=SIGNATURE.format(1))
def dist_1(corpus: Corpus) -> float:
    """DIST-1, in percent."""
    return distinct(corpus.predictions, 1)


@register("dist_2", direction="higher", level="corpus", signature=SIGNATURE.format(2))
def dist_2(corpus: Corpus) -> float:
    """DIST-2, in percent."""
    return distinct(corpus.predictions, 2)


def distinct(texts: Sequence[str], n: int) -> float:
    """Distinct n-grams over all n-grams of `texts`, in percent.

    Raises:
        Unavailable: no text has n tokens, so the ratio is 0 / 0.
    """
    ngrams = []
    for text in texts:
        tokens = text.split()
        ngrams += [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    if not ngrams:
        raise Unavailable(f"no prediction has {n} or more tokens, so there is no {n}-gram to count")
    return 100 * len(set(ngrams)) / len(ngrams)
