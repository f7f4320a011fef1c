"""How sure a metric is, and whether two systems differ: bootstrap intervals, and paired tests over questions.

The tests are those of Salemi et al. (2024, ROPG and RSPG): McNemar's for accuracy and F1, a two-sided paired t-test
for MAE, RMSE and ROUGE, at p < 0.05. F1 and RMSE are tested by the answers and errors that accuracy and MAE are
made of, as a question alone has no other.
"""

import math
import warnings

import numpy as np

from companions.lamp.metrics import Scored

LEVEL = 0.05
_ROWS = 100  # resamples at a time: their weights [_ROWS, N] are in memory


def intervals(scored: Scored, resamples: int = 1000, seed: int = 0) -> dict[str, tuple[float, float]]:
    """The 95 % percentile interval of each metric, from resamples of the questions with replacement.

    Args:
        scored: predictions of one system.
        resamples: how many.
        seed: the same one gives the same intervals.
    """
    generator = np.random.default_rng(seed)
    count = len(scored.values)
    means = [
        # how often each question is drawn, [rows, N]
        generator.multinomial(count, [1 / count] * count, size=min(_ROWS, resamples - start))
        @ scored.values
        / count
        for start in range(0, resamples, _ROWS)
    ]
    limits = (100 * LEVEL / 2, 100 - 100 * LEVEL / 2)
    return {
        name: tuple(np.percentile(values, limits).tolist())
        for name, values in scored.combine(np.concatenate(means)).items()
    }


def p_value(name: str, first: Scored, second: Scored) -> float:
    """The probability of a difference as large as this in a metric, were the two systems equal.

    Args:
        name: of the metric.
        first: predictions of one system.
        second: those of another one, for the same questions in the same order.
    """
    if len(first.values) != len(second.values):
        raise ValueError(f"not the same questions: {len(first.values)} and {len(second.values)}")
    answers = name in ("accuracy", "f1")
    one, other = (
        np.array(scored.per_example()["accuracy" if answers else name]) for scored in (first, second)
    )
    return mcnemar(one == 1, other == 1) if answers else paired_t_test(one, other)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """McNemar's exact two-sided test of two systems' right answers [N], true or false; 1 where they never differ."""
    from scipy.stats import binomtest

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differing = only_first + only_second
    return float(binomtest(only_first, differing, 0.5).pvalue) if differing else 1.0


def paired_t_test(first: np.ndarray, second: np.ndarray) -> float:
    """The two-sided paired t-test of values [N]; 1 where they are all equal, NaN for a single question."""
    from scipy.stats import ttest_rel

    if len(first) < 2:
        return math.nan
    if np.array_equal(first, second):
        return 1.0
    with warnings.catch_warnings():  # of a loss of precision, where all differences are equal: p is 0
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(ttest_rel(first, second).pvalue)
