"""METEOR: unigram overlap that also matches stems and synonyms. It needs WordNet, which NLTK ships apart.

Source: Lavie and Agarwal 2007, METEOR: An Automatic Metric for MT Evaluation; the arithmetic is NLTK's.
"""

from typing import Any

from utils.metrics.registry import Corpus, Unavailable, register, require


@register(
    "meteor",
    direction="higher",
    level="example",
    signature=lambda _: (
        f"{require('nltk', 'nltk')} meteor_score x100: whitespace tokens in lower case, Porter stems, "
        "WordNet synonyms, alpha 0.9, beta 3, gamma 0.5"
    ),
)
def meteor(corpus: Corpus) -> list[float]:
    """METEOR of each example, in percent; 0 for an empty prediction."""
    wordnet = load_wordnet()
    from nltk.translate.meteor_score import single_meteor_score

    return [
        100 * single_meteor_score(target.split(), prediction.split(), wordnet=wordnet)
        for prediction, target in zip(corpus.predictions, corpus.targets, strict=True)
    ]


def load_wordnet() -> Any:
    """NLTK's WordNet reader.

    Raises:
        Unavailable: nltk is not installed, or its WordNet data is not on its path.
    """
    require("nltk", "nltk")
    import nltk

    for resource in ("corpora/wordnet", "corpora/wordnet.zip"):
        try:
            nltk.data.find(resource)
            nltk.corpus.wordnet.ensure_loaded()
        except LookupError:
            continue
        return nltk.corpus.wordnet
    raise Unavailable("NLTK's WordNet data is not installed; run: python -m nltk.downloader wordnet")
