"""Confidence intervals of a metric, and paired tests between systems that answered the same examples.

Examples that belong together resemble one another, so groups of them, and not examples, are taken as independent.
Intervals are those of the jackknife over groups (Efron and Stein, 1981), which unlike the bootstrap does not repeat
examples: repeated replies would count as less diverse. The test is approximate randomisation (Noreen, 1989): if two
systems are equal, any group's outputs may as well be exchanged between them. Both hold for metrics of a whole corpus.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

Array = np.ndarray
_Z = 1.959964  # of a 95 % interval
_DRAWS, _CHUNK = 2_000, 250


class Measure(Protocol):
    """A metric of one system on G groups of examples."""

    def value(self) -> float:
        """On all groups."""
        ...

    def without_each(self) -> Array:
        """[G] on all groups but each one."""
        ...

    def exchanged(self, other: "Measure", exchange: Array) -> Array:
        """[R] on the system whose groups are `other`'s where `exchange` [R, G] bool says so, and its own elsewhere."""
        ...


@dataclass(frozen=True)
class Sums:
    """A metric that is a formula of sums over examples, such as a mean, a perplexity, or BLEU."""

    sums: Array  # [G, F] float64
    formula: Callable[[Array], Array]
    """[.., F] sums -> [..] values"""

    def value(self) -> float:
        """See `Measure`."""
        return float(self.formula(self.sums.sum(axis=0)))

    def without_each(self) -> Array:
        """See `Measure`."""
        return self.formula(self.sums.sum(axis=0) - self.sums)

    def exchanged(self, other: "Measure", exchange: Array) -> Array:
        """See `Measure`."""
        assert isinstance(other, Sums), type(other)
        return self.formula(self.sums.sum(axis=0) + exchange.astype(float) @ (other.sums - self.sums))


@dataclass(frozen=True)
class Distinct:
    """The share of distinct items among all items that a system made, in percent: DIST-n where items are n-grams.

    Of a system that made none it is 0.
    """

    items: Array
    """[I] int64, numbers of the items; equal items of two systems that are compared have equal numbers"""
    groups: Array
    """[I] int64, the group of each"""
    num_groups: int

    def value(self) -> float:
        """See `Measure`."""
        return 100 * len(np.unique(self.items)) / max(1, len(self.items))

    def without_each(self) -> Array:
        """See `Measure`."""
        pairs = np.unique(np.stack([self.items, self.groups]), axis=1)  # [2, P] each item once in a group
        items, groups_of_item = np.unique(pairs[0], return_counts=True)
        only_here = groups_of_item[np.searchsorted(items, pairs[0])] == 1
        lost = np.bincount(pairs[1][only_here], minlength=self.num_groups)
        left = len(self.items) - np.bincount(self.groups, minlength=self.num_groups)
        return 100 * (len(items) - lost) / np.maximum(left, 1)

    def exchanged(self, other: "Measure", exchange: Array) -> Array:
        """See `Measure`."""
        assert isinstance(other, Distinct), type(other)
        size = 1 + int(max(self.items.max(initial=0), other.items.max(initial=0)))
        values = np.empty(len(exchange))
        for number, drawn in enumerate(exchange):
            kept, taken = self.items[~drawn[self.groups]], other.items[drawn[other.groups]]
            found = np.zeros(size, dtype=bool)
            found[kept] = found[taken] = True
            values[number] = 100 * np.count_nonzero(found) / max(1, len(kept) + len(taken))
        return values


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Estimate):
    """A difference of two systems with its 95 % interval."""

    p: float
    """two-sided, of approximate randomisation"""


def estimate(runs: Sequence[Measure]) -> Estimate:
    """The mean of a metric over the runs of one system, such as its seeds, all on the same groups."""
    value = float(np.mean([run.value() for run in runs]))
    half = _Z * _jackknife_error(np.mean([run.without_each() for run in runs], axis=0))
    return Estimate(value, value - half, value + half)


def difference(first: Sequence[Measure], second: Sequence[Measure], seed: int = 0) -> Difference:
    """`first` minus `second`: the mean over pairs of runs, all on the same groups.

    Args:
        first: runs of one system.
        second: as many of the other one.
        seed: of the exchanges.
    """
    pairs = list(zip(first, second, strict=True))
    value = float(np.mean([one.value() - other.value() for one, other in pairs]))
    left_out = np.mean([one.without_each() - other.without_each() for one, other in pairs], axis=0)  # [G]
    half = _Z * _jackknife_error(left_out)
    generator = np.random.default_rng(seed)
    extreme = 0
    for start in range(0, _DRAWS, _CHUNK):
        exchange = generator.random((min(_CHUNK, _DRAWS - start), len(left_out))) < 0.5
        drawn = np.mean(
            [one.exchanged(other, exchange) - other.exchanged(one, exchange) for one, other in pairs], axis=0
        )
        # a difference of 0 is as extreme as itself, whatever rounding makes of it
        extreme += int(np.count_nonzero(np.abs(drawn) >= abs(value) - 1e-12))
    return Difference(value, value - half, value + half, (extreme + 1) / (_DRAWS + 1))


def _jackknife_error(left_out: Array) -> float:
    """Standard error from the values without each group [G]; infinite for one group."""
    size = len(left_out)
    if size < 2:
        return math.inf
    return float(np.sqrt((size - 1) / size * np.square(left_out - left_out.mean()).sum()))


Item = TypeVar("Item")


def numbered(systems: Sequence[Sequence[Sequence[Item]]], groups: Array) -> list[Distinct]:
    """The items of several systems as measures that may be compared.

    Args:
        systems: of each system the items of each example.
        groups: [n] int64, the group of each example, counted from 0.
    """
    numbers: dict[Item, int] = {}
    measures = []
    for examples in systems:
        items = [numbers.setdefault(item, len(numbers)) for example in examples for item in example]
        owners = np.repeat(groups, [len(example) for example in examples])
        measures.append(Distinct(np.array(items, dtype=np.int64), owners, int(groups.max()) + 1))
    return measures


def summed(values: Array, groups: Array) -> Array:
    """Sums of values [n, F] over the examples of each group: [G, F]."""
    sums = np.zeros((int(groups.max()) + 1, values.shape[1]))
    np.add.at(sums, groups, values)
    return sums
