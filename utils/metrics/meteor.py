"""METEOR: unigram overlap that also matches stems and synonyms. It needs WordNet, which NLTK ships apart.

Source: Lavie and Agarwal 2007, METEOR: An Automatic Metric for MT Evaluation; the arithmetic is NLTK's.
"""

import io
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

from utils.metrics.registry import Corpus, Settings, Unavailable, register, require

SYSTEM_WORDNET = Path("/usr/share/wordnet")  # of Debian's and Ubuntu's package wordnet-base


def _signature(_: Settings) -> str:
    wordnet, source = load_wordnet()
    return (
        f"{require('nltk', 'nltk')} meteor_score x100: whitespace tokens in lower case, Porter stems, synonyms of "
        f"WordNet {wordnet.get_version()} ({source}), alpha 0.9, beta 3, gamma 0.5"
    )


@register("meteor", direction="higher", level="example", signature=_signature)
def meteor(corpus: Corpus) -> list[float]:
    """METEOR of each example, in percent; 0 for an empty prediction.

    Raises:
        Unavailable: nltk or WordNet is not installed.
    """
    wordnet, _ = load_wordnet()
    from nltk.translate.meteor_score import single_meteor_score

    return [
        100 * single_meteor_score(target.split(), prediction.split(), wordnet=wordnet)
        for prediction, target in zip(corpus.predictions, corpus.targets, strict=True)
    ]


def load_wordnet() -> tuple[Any, str]:
    """NLTK's reader on its own WordNet data, else on the system's; and where the data is from.

    Raises:
        Unavailable: nltk is not installed, or there is no WordNet.
    """
    require("nltk", "nltk")
    import nltk

    for resource in ("corpora/wordnet", "corpora/wordnet.zip"):
        try:
            nltk.data.find(resource)
            nltk.corpus.wordnet.ensure_loaded()
        except LookupError:
            continue
        return nltk.corpus.wordnet, "NLTK's data"
    if (SYSTEM_WORDNET / "data.noun").is_file():
        if str(SYSTEM_WORDNET) not in nltk.data.path:  # NLTK reads below the folders of its path only
            nltk.data.path.append(str(SYSTEM_WORDNET))
        return _system_wordnet(SYSTEM_WORDNET), "the system's wordnet-base"
    raise Unavailable(
        "WordNet is not installed; run: python -m nltk.downloader wordnet, or on Debian: apt-get install wordnet-base"
    )


@lru_cache(maxsize=1)
def _system_wordnet(folder: Path) -> Any:
    """NLTK's reader on the files of Debian's package; kept, as loading takes seconds.

    The package lacks two files that NLTK asks for and no synonym depends on: `lexnames`, the names of the files
    that a synset was written in, and `index.sense`, which maps synsets from one version of WordNet to another.
    """
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    class SystemWordNet(WordNetCorpusReader):
        def open(self, file: str) -> Any:
            if file == "lexnames":
                return io.StringIO("".join(f"{number}\tunnamed\t0\n" for number in range(45)))
            return super().open(file)

        def map_wn(self, version: str = "wordnet") -> None:
            """No other version is asked for."""

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The multilingual functions are not available")
        return SystemWordNet(str(folder), None)
