"""Overlap of the generated response with the true one in tokens and n-grams: F1, BLEU and ROUGE.

Three different F1s are in use in this field. `f1` is SPT's: generated text, raw whitespace tokens.
`f1_parlai` is ParlAI's: generated text, normalised. PersonaGPT's is teacher-forced and is not computed here.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

from utils.metrics.registry import Corpus, register, require

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION_TO_SPACE = str.maketrans(dict.fromkeys(string.punctuation, " "))
ROUGE_TYPES = ("rouge1", "rouge2", "rougeL")


@register(
    "f1",
    direction="higher",
    level="example",
    signature="SPT's F1: multiset overlap of whitespace tokens as they are (case, punctuation and articles "
    "count), x100; neither ParlAI's F1 (see f1_parlai) nor PersonaGPT's teacher-forced one",
)
def f1(corpus: Corpus) -> list[float]:
    """SPT's F1 of each example, in percent."""
    return [
        token_f1(prediction.split(), target.split())
        for prediction, target in zip(corpus.predictions, corpus.targets, strict=True)
    ]


@register(
    "f1_parlai",
    direction="higher",
    level="example",
    signature="ParlAI's F1: multiset overlap of whitespace tokens in lower case without punctuation and "
    "a/an/the, x100; not SPT's F1 (see f1)",
)
def f1_parlai(corpus: Corpus) -> list[float]:
    """ParlAI's F1 of each example, in percent."""
    return [
        token_f1(parlai_tokens(prediction), parlai_tokens(target))
        for prediction, target in zip(corpus.predictions, corpus.targets, strict=True)
    ]


def token_f1(prediction: Sequence[str], target: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of tokens, in percent; 0 where nothing is shared.

    A token counts as often as both sides have it: ["a", "a", "a"] and ["a", "a"] share two tokens.
    """
    shared = (Counter(prediction) & Counter(target)).total()
    return 200 * shared / (len(prediction) + len(target)) if shared else 0.0


def parlai_tokens(text: str) -> list[str]:
    """Tokens in lower case; punctuation splits words ("don't" gives "don" and "t"); articles are dropped."""
    return ARTICLES.sub(" ", text.lower().translate(PUNCTUATION_TO_SPACE)).split()


def _bleu_signature(_: object) -> str:
    from sacrebleu.metrics import BLEU

    # A dummy reference, because the signature states the number of references.
    signature = BLEU(references=[[""]]).get_signature()
    return f"sacreBLEU defaults, corpus level; bleu_n are its n-gram precisions, after smoothing; {signature}"


@register(
    "bleu",
    "bleu_1",
    "bleu_2",
    "bleu_3",
    "bleu_4",
    direction="higher",
    level="corpus",
    signature=_bleu_signature,
)
def bleu(corpus: Corpus) -> tuple[float, ...]:
    """Corpus BLEU (0 to 100) and its four n-gram precisions (percent)."""
    require("sacrebleu", "sacrebleu")
    from sacrebleu.metrics import BLEU

    # force only silences the warning that the text looks tokenised, as ConvAI2 is. The scores are the same.
    result = BLEU(force=True).corpus_score(corpus.predictions, [corpus.targets])
    return (result.score, *result.precisions)


@register(
    *ROUGE_TYPES,
    direction="higher",
    level="example",
    signature=lambda _: (
        f"{require('rouge-score', 'rouge_score')}: F-measure x100, its default tokenizer "
        "(lower case, runs of a-z and 0-9), use_stemmer False"
    ),
)
def rouge(corpus: Corpus) -> tuple[list[float], ...]:
    """ROUGE-1, ROUGE-2 and ROUGE-L F-measure of each example, in percent."""
    require("rouge-score", "rouge_score")
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(ROUGE_TYPES, use_stemmer=False)
    results = [
        scorer.score(target, prediction)
        for prediction, target in zip(corpus.predictions, corpus.targets, strict=True)
    ]
    return tuple([100 * result[name].fmeasure for result in results] for name in ROUGE_TYPES)
