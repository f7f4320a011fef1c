"""Perplexity of the true responses. It needs no text: the decoding run has left the summed losses."""

import math

from utils.metrics.registry import Corpus, Unavailable, register


@register(
    "ppl",
    direction="lower",
    level="corpus",
    signature="exp(summed cross-entropy in nats / tokens) of the target and eos over the whole corpus, "
    "teacher-forced after the input of the prediction; per token of the base LM's own tokenizer, so it compares only "
    "runs on the same tokenizer",
)
def ppl(corpus: Corpus) -> float:
    """Corpus perplexity from `nll` (nats, summed over an example's tokens) and `nll_tokens` (their number).

    Raises:
        Unavailable: an example has no `nll` or not a finite one, or no token was counted, or the perplexity
            overflows. Leaving such examples out would compare runs on different examples.
    """
    losses = [example["nll"] for example in corpus.examples if example.get("nll") is not None]
    missing = len(corpus.examples) - len(losses)
    if missing:
        raise Unavailable(
            f"nll is missing in {missing} of {len(corpus.examples)} examples; decode again with test.py"
        )
    infinite = sum(not math.isfinite(loss) for loss in losses)
    if infinite:
        raise Unavailable(f"nll is not finite in {infinite} of {len(losses)} examples")
    tokens = sum(example["nll_tokens"] for example in corpus.examples)
    if tokens == 0:
        raise Unavailable("nll_tokens is 0 in every example")
    try:
        return math.exp(math.fsum(losses) / tokens)
    except OverflowError as error:
        raise Unavailable("the perplexity is too large to be represented; the run has diverged") from error
