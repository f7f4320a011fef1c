"""The metrics that systems are compared by, as measures with intervals and tests (utils/metrics/comparison.py)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from utils.metrics.comparison import Array, Measure, Sums, numbered, summed
from utils.metrics.overlap import token_f1

Rows = Sequence[Mapping[str, Any]]
"""the rows of a result file"""


def _perplexity(sums: Array) -> Array:
    return np.exp(sums[..., 0] / sums[..., 1])


def _mean_percent(sums: Array) -> Array:
    return sums[..., 0] / sums[..., 1]


def _bleu(sums: Array) -> Array:
    from sacrebleu.metrics import BLEU

    def score(row: Array) -> float:
        counts = [int(count) for count in np.rint(row)]
        return float(
            BLEU.compute_bleu(counts[2:6], counts[6:], counts[0], counts[1], smooth_method="exp").score
        )

    return np.apply_along_axis(score, -1, sums)


def _losses(row: Mapping[str, Any]) -> list[float]:
    return [float(row["nll"]), float(row["nll_tokens"])]


def _f1(row: Mapping[str, Any]) -> list[float]:
    return [token_f1(row["prediction"].split(), row["target"].split()), 1.0]


def _bleu_counts(row: Mapping[str, Any]) -> list[float]:
    from sacrebleu.metrics import BLEU

    found = BLEU(force=True).corpus_score([row["prediction"]], [[row["target"]]])
    return [found.sys_len, found.ref_len, *found.counts, *found.totals]


def _ngrams(n: int) -> Callable[[Mapping[str, Any]], list[Any]]:
    def ngrams(row: Mapping[str, Any]) -> list[Any]:
        tokens = row["prediction"].split()
        return [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]

    return ngrams


_SUMS = {"ppl": (_losses, _perplexity), "f1": (_f1, _mean_percent), "bleu": (_bleu_counts, _bleu)}
_DISTINCT: dict[str, Callable[[Mapping[str, Any]], list[Any]]] = {
    "dist_1": _ngrams(1),
    "dist_2": _ngrams(2),
    "replies": lambda row: [row["prediction"]],
}
MEASURES = (*_SUMS, *_DISTINCT)
"""perplexity, SPT's F1, BLEU, DIST-1 and DIST-2 as in a report; distinct replies over all replies, in percent"""


def measures_of(name: str, systems: Sequence[Rows], group: str) -> list[Measure]:
    """One metric of several systems that answered the same examples.

    Args:
        name: one of MEASURES.
        systems: the rows of each, in the order of the file.
        group: the key of a row that says which examples belong together.

    Raises:
        ValueError: they have not the same examples.
    """
    owners = [[row[group] for row in rows] for rows in systems]
    targets = [[row["target"] for row in rows] for rows in systems]
    if any(other != owners[0] for other in owners) or any(other != targets[0] for other in targets):
        raise ValueError("the systems did not answer the same examples")
    groups = np.unique(np.array(owners[0]), return_inverse=True)[1]
    if name in _DISTINCT:
        items = _DISTINCT[name]
        return list[Measure](numbered([[items(row) for row in rows] for rows in systems], groups))
    values, formula = _SUMS[name]
    return [
        Sums(summed(np.array([values(row) for row in rows], dtype=float), groups), formula)
        for rows in systems
    ]
