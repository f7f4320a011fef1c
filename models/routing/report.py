"""How well each way to choose a prompt does on the same examples: figures, intervals, a table and a verdict."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

FIXED, OWN, RANDOM, ORACLE = "best fixed prompt", "own choice", "random choice", "oracle"
RESAMPLES = 2000
EQUAL = 0.1
"""percent of perplexity: an oracle that gains less has nothing to choose among"""
_SHOWN = 6  # shares of so many prompts fit into a line


@dataclass(frozen=True, slots=True)
class Figures:
    """One way to choose, on all examples."""

    name: str
    perplexity: float
    """per token, over all responses"""
    loss: float
    """nats per token"""
    change: float
    """percent of perplexity against the best fixed prompt; below 0 is better"""
    low: float
    """of the 95 % interval of `change`, over dialogues"""
    high: float
    agreement: float
    """share of the examples for which no prompt has a lower loss"""
    shares: tuple[float, ...]
    """of the examples, of each prompt"""


def figures_of(
    name: str,
    choice: np.ndarray,
    losses: np.ndarray,
    tokens: np.ndarray,
    dialogues: np.ndarray,
    fixed: np.ndarray,
) -> Figures:
    """The figures of a choice.

    Args:
        name: of the way to choose.
        choice: [n] prompts, or [K, n] shares of each, which add up to 1.
        losses: [K, n] summed over tokens, nats.
        tokens: [n].
        dialogues: [n].
        fixed: [n] the prompt to compare with.
    """
    shares = choice if choice.ndim == 2 else one_hot(choice, len(losses))  # [K, n]
    own, compared = (shares * losses).sum(axis=0), losses[fixed, np.arange(len(fixed))]  # [n]
    change, low, high = (
        100 * math.expm1(value) for value in ratio_interval(own - compared, tokens, dialogues)
    )
    loss = own.sum() / tokens.sum()
    return Figures(
        name=name,
        perplexity=math.exp(loss),
        loss=float(loss),
        change=change,
        low=low,
        high=high,
        agreement=float((shares * (losses == losses.min(axis=0))).sum(axis=0).mean()),
        shares=tuple(shares.mean(axis=1).tolist()),
    )


def one_hot(choice: np.ndarray, num_prompts: int) -> np.ndarray:
    """[K, n] of prompts [n]."""
    return np.eye(num_prompts)[choice].T


def ratio_interval(
    values: np.ndarray, weights: np.ndarray, dialogues: np.ndarray, resamples: int = RESAMPLES
) -> tuple[float, float, float]:
    """sum(values) / sum(weights), with a 95 % interval: dialogues are drawn with replacement, the same every time.

    Args:
        values: [n].
        weights: [n], above 0.
        dialogues: [n]; examples of a dialogue are drawn together, as their losses are alike.
        resamples: how often.

    Returns:
        The ratio, and the 2.5 % and 97.5 % quantiles of the resamples' ratios.
    """
    _, of_example = np.unique(dialogues, return_inverse=True)
    sums = np.bincount(of_example, values), np.bincount(of_example, weights)  # [D] each
    generator = np.random.default_rng(0)
    ratios = []
    for _ in range(resamples):
        drawn = np.bincount(generator.integers(len(sums[0]), size=len(sums[0])), minlength=len(sums[0]))
        ratios.append((drawn @ sums[0]) / (drawn @ sums[1]))
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(values.sum() / weights.sum()), float(low), float(high)


def format_table(rows: Sequence[Figures]) -> list[str]:
    """Lines of at most 100 columns."""
    most = len(rows[0].shares)
    width = max(len(row.name) for row in rows)
    title = "share of each prompt, %" if most <= _SHOWN else f"share of prompts, % (the {_SHOWN - 3} largest)"
    lines = [
        f"{'choice':{width}}  {'ppl':>8}  {'nats':>7}  {'ppl, %':>7}  {'95 % interval':>16}  {'agree':>5}  {title}"
    ]
    for row in rows:
        interval = "" if row.name == FIXED else f"{row.low:+.2f} to {row.high:+.2f}"
        change = "" if row.name == FIXED else f"{row.change:+.2f}"
        lines.append(
            f"{row.name:{width}}  {row.perplexity:8.2f}  {row.loss:7.4f}  {change:>7}  {interval:>16}  "
            f"{100 * row.agreement:4.0f}%  {_shares(row.shares)}"
        )
    return lines


def _shares(shares: Sequence[float]) -> str:
    if len(shares) <= _SHOWN:
        return " ".join(f"{100 * share:3.0f}" for share in shares)
    largest = sorted(range(len(shares)), key=lambda prompt: -shares[prompt])[: _SHOWN - 3]
    return ", ".join(f"{prompt}: {100 * shares[prompt]:.0f}" for prompt in largest)


def verdict(rows: Mapping[str, Figures], preferred: str, fixed: str) -> list[str]:
    """Sentences: whether choosing can help on this checkpoint.

    Args:
        rows: by name.
        preferred: the router that did best within the fit part; judged alone, so that nothing is picked by the very
            examples that it is measured on.
        fixed: the best fixed prompt in words.
    """
    oracle, own, router = rows[ORACLE], rows[OWN], rows[preferred]
    if -oracle.change < EQUAL:
        return [
            f"No selector can help: the prompts are as good as one. Even the oracle, which knows the response, gains "
            f"{-oracle.change:.2f} % of perplexity."
        ]
    lines = [
        f"The ceiling is {-oracle.change:.2f} % of perplexity: the oracle's gain, which knows the response. No "
        "selector that reads only the context reaches it."
    ]
    if preferred == FIXED:
        lines.append(
            f"No selector is seen to help: within the fit part no router did better than {fixed} for everything."
        )
    elif router.high < 0:
        lines.append(
            f"A selector helps: the router '{preferred}' lowers perplexity by {-router.change:.2f} % "
            f"({-router.high:.2f} to {-router.low:.2f}) against {fixed} for everything."
        )
    elif router.low > 0:
        lines.append(
            f"No selector is seen to help: the router '{preferred}', the best one within the fit part, raises "
            f"perplexity by {router.change:.2f} % here; what it was fitted on is unlike what it was measured on."
        )
    else:
        lines.append(
            f"No selector is seen to help: the change by the router '{preferred}', {router.change:+.2f} %, has an "
            f"interval that holds 0 ({router.low:+.2f} to {router.high:+.2f})."
        )
    if own.low > 0:
        lines.append(f"The run's own choice is worse than {fixed} for everything, by {own.change:.2f} %.")
    elif own.high < 0:
        lines.append(f"The run's own choice pays: {-own.change:.2f} % better than {fixed} for everything.")
    else:
        lines.append(f"The run's own choice is no different from {fixed} for everything.")
    return lines


def as_json(row: Figures) -> dict[str, Any]:
    """Plain values."""
    return {key: value for key, value in asdict(row).items() if key != "name"}
