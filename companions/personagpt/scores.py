"""Teacher-forced scores of answers: those of the original under names of their own, and the perplexity per token.

The original's figures count an answer from its second token on, average over answers, and compare the argmax of each
position, given the TRUE words before it, with the true tokens as sets. They are no measure of replies that a model
generates; those are scored by `evaluate_runs_results.py`.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

SMOOTHING = 1e-3
"""added to precision plus recall in the original's F1"""


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """What a model makes of one true answer, eos included."""

    first_nll: float
    """cross-entropy of the first token (nats)"""
    rest_nll: float
    """the same summed over the other tokens"""
    num_tokens: int
    """tokens of the answer, the first one included"""
    f1: float
    """`teacher_forced_f1` of the tokens after the first"""

    @property
    def legacy_loss(self) -> float | None:
        """Mean cross-entropy without the first token; None for an answer of one token."""
        return self.rest_nll / (self.num_tokens - 1) if self.num_tokens > 1 else None


@dataclass(frozen=True, slots=True)
class Totals:
    """The scores of a file."""

    legacy_perplexity: float
    """exp of the mean over answers of `legacy_loss`"""
    legacy_loss: float
    teacher_forced_f1: float
    """mean over the same answers, 0 to 1"""
    token_perplexity: float
    """exp of the mean over all tokens of all answers, first tokens and eos included"""
    answers: int
    """that the figures of the original are a mean over: those of more than one token"""
    tokens: int
    """that the token perplexity is a mean over"""


def segments(ids: Sequence[int], eos_id: int) -> list[list[int]]:
    """The ids between runs of eos, without eos and without empty parts."""
    parts: list[list[int]] = [[]]
    for token in ids:
        if token == eos_id:
            parts.append([])
        else:
            parts[-1].append(token)
    return [part for part in parts if part]


def pair_f1(predicted: Sequence[int], true: Sequence[int]) -> float:
    """F1 of the distinct ids in common, over lengths that count repeats, smoothed: 2PR / (P + R + 0.001)."""
    shared = len(set(predicted) & set(true))
    precision, recall = shared / len(predicted), shared / len(true)
    return 2 * precision * recall / (precision + recall + SMOOTHING)


def teacher_forced_f1(predicted: Sequence[int], true: Sequence[int], eos_id: int) -> float:
    """The original's F1 of one answer, 0 to 1: the mean over pairs of segments, first with first and so on.

    An answer without a pair has predicted nothing before its end, and scores 0. The original's mean of no pairs is no
    number, which made the score of the whole file none.

    Args:
        predicted: likeliest token at each position, given the true tokens before it.
        true: the tokens themselves.
        eos_id: what parts segments.
    """
    pairs = zip(segments(predicted, eos_id), segments(true, eos_id), strict=False)
    scores = [pair_f1(*pair) for pair in pairs]
    return statistics.fmean(scores) if scores else 0.0


def totals(scores: Sequence[AnswerScore]) -> Totals:
    """The scores of a file from those of its answers.

    An answer of one token, which is eos, has no position that the original scores, and is left out of its figures.

    Raises:
        ValueError: no answer has more than one token.
        OverflowError: a perplexity is too large to be represented.
    """
    losses = [score.legacy_loss for score in scores if score.legacy_loss is not None]
    if not losses:
        raise ValueError("no answer has more than one token")
    tokens = sum(score.num_tokens for score in scores)
    nll = math.fsum(score.first_nll + score.rest_nll for score in scores)
    loss = statistics.fmean(losses)
    return Totals(
        legacy_perplexity=math.exp(loss),
        legacy_loss=loss,
        teacher_forced_f1=statistics.fmean(score.f1 for score in scores if score.num_tokens > 1),
        token_perplexity=math.exp(nll / tokens),
        answers=len(losses),
        tokens=tokens,
    )
