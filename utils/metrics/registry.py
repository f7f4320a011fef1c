"""The registry of metrics: what each is, which way is better, and how examples become one number.

It knows no metric by name. A metric is a function of a `Corpus`, registered under one name, or under several
names when one pass over the examples yields several numbers (BLEU and its precisions, ROUGE-1/2/L).
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Literal

from utils.errors import UserError, nearest

Example = Mapping[str, Any]
Settings = Mapping[str, str]
Values = float | Sequence[float]  # one number of the corpus, or one per example


class Unavailable(Exception):
    """A metric cannot be computed here. The message says what is missing and how to get it."""


@dataclass(frozen=True)
class Corpus:
    """What a metric sees: the examples of one result file, in order, and the caller's settings."""

    examples: Sequence[Example]
    settings: Settings

    @cached_property
    def predictions(self) -> list[str]:
        """The generated responses, cut."""
        return [example["prediction"] for example in self.examples]

    @cached_property
    def targets(self) -> list[str]:
        """The true responses."""
        return [example["target"] for example in self.examples]


@dataclass(frozen=True)
class Metric:
    """One column of a report."""

    name: str
    direction: Literal["higher", "lower"]
    """Which way is better."""
    level: Literal["example", "corpus"]
    """Whether the number is a mean over examples, which has a standard error, or one of the whole corpus."""
    signature: str | Callable[[Settings], str]
    """What exactly is computed: definition, tokenisation, unit, library and version."""
    function: Callable[[Corpus], Any]
    """Gives `Values`, or for a family of several names a tuple of `Values` in the order of `family`."""
    family: tuple[str, ...]


@dataclass(frozen=True)
class Score:
    """The outcome of one metric on one corpus: a value, or the reason why there is none."""

    metric: Metric
    value: float | None
    stderr: float | None = None
    """Of the mean, the examples taken as independent. None at corpus level or for a single example."""
    signature: str = ""
    reason: str = ""


_METRICS: dict[str, Metric] = {}


def register(
    *names: str,
    direction: Literal["higher", "lower"],
    level: Literal["example", "corpus"],
    signature: str | Callable[[Settings], str],
) -> Callable[[Callable[[Corpus], Any]], Callable[[Corpus], Any]]:
    """Register the decorated function as the metric, or the family of metrics, called `names`.

    Raises:
        ValueError: a name is taken. Two metrics under one name would be mixed up in a report.
    """

    def add(function: Callable[[Corpus], Any]) -> Callable[[Corpus], Any]:
        for name in names:
            if name in _METRICS:
                raise ValueError(f"metric '{name}' is registered twice")
            _METRICS[name] = Metric(name, direction, level, signature, function, names)
        return function

    return add


def select(names: Sequence[str] | None = None) -> list[Metric]:
    """The metrics called `names`, without repeats and in that order; all of them for None.

    Raises:
        UserError: a name is unknown. The message gives the nearest valid one.
    """
    if names is None:
        return list(_METRICS.values())
    for name in names:
        if name not in _METRICS:
            raise UserError(f"unknown metric '{name}'{nearest(name, _METRICS)}")
    return [_METRICS[name] for name in dict.fromkeys(names)]


def score(
    examples: Sequence[Example], names: Sequence[str] | None = None, settings: Settings | None = None
) -> dict[str, Score]:
    """Score `examples`, which hold at least `prediction` and `target`, by the metrics called `names`, or all.

    A metric that cannot be computed, or whose score is not finite, has the value None and a reason. A family is
    computed once.

    Raises:
        UserError: a name is unknown, or there is no example.
    """
    metrics = select(names)
    if not examples:
        raise UserError("no examples to score")
    corpus = Corpus(examples, settings or {})
    families: dict[tuple[str, ...], dict[str, Score]] = {}
    for metric in metrics:
        if metric.family not in families:
            families[metric.family] = _score_family(metric, corpus)
    return {metric.name: families[metric.family][metric.name] for metric in metrics}


def require(package: str, module: str) -> str:
    """Name and version of an installed `package`, for a signature.

    Raises:
        Unavailable: `module`, which it provides, cannot be imported.
    """
    if find_spec(module) is None:
        raise Unavailable(f"the package {package} is not installed; run: pip install {package}")
    return f"{package} {version(package)}"


def _score_family(metric: Metric, corpus: Corpus) -> dict[str, Score]:
    members = [_METRICS[name] for name in metric.family]
    try:
        values = metric.function(corpus)
        signature = (
            metric.signature if isinstance(metric.signature, str) else metric.signature(corpus.settings)
        )
    except Unavailable as error:
        return {member.name: Score(member, None, reason=str(error)) for member in members}
    values = values if len(members) > 1 else (values,)
    return {
        member.name: _score_member(member, value, len(corpus.examples), signature)
        for member, value in zip(members, values, strict=True)
    }


def _score_member(metric: Metric, values: Values, examples: int, signature: str) -> Score:
    try:
        return Score(metric, *_aggregate(metric, values, examples), signature=signature)
    except Unavailable as error:
        return Score(metric, None, reason=str(error))


def _aggregate(metric: Metric, values: Values, examples: int) -> tuple[float, float | None]:
    """The value, and its standard error where it is a mean over more than one example.

    Raises:
        Unavailable: one of them is not finite.
    """
    if metric.level == "corpus":
        if isinstance(values, Sequence):
            raise ValueError(f"metric '{metric.name}' gave {len(values)} values, not one of the whole corpus")
        if not math.isfinite(values):
            raise Unavailable(f"the score is not finite: {values}")
        return float(values), None
    if not isinstance(values, Sequence):
        raise ValueError(f"metric '{metric.name}' gave {type(values).__name__}, not a number per example")
    if len(values) != examples:
        raise ValueError(f"metric '{metric.name}' gave {len(values)} values for {examples} examples")
    infinite = sum(not math.isfinite(value) for value in values)
    if infinite:
        raise Unavailable(f"the score is not finite in {infinite} of {examples} examples")
    try:
        return statistics.fmean(values), statistics.stdev(values) / examples**0.5 if examples > 1 else None
    except OverflowError as error:
        raise Unavailable("the mean or its standard error is too large to be represented") from error
