"""Utilities: how well an LM's output served, higher is better, from the metrics that were measured of it.

Most tasks use their metric as it is. The ratings of LaMP-3 use (w - MAE) / w, w being the largest error that the gold
rating allows: 1 for an exact prediction, 0 for the worst one (Salemi et al., 2024, arXiv 2404.05970).
"""

import sys
from collections.abc import Mapping
from typing import Any

from companions.lamp.tasks import HIGHEST, LOWEST, Task
from utils.errors import shown


def utility(task: Task, metrics: Mapping[str, Any], gold: str) -> float:
    """The utility of one output.

    Args:
        task: says which metric counts.
        metrics: its metrics by name, such as `{"rouge-1": 0.5}`.
        gold: the gold output of its question, which ratings are measured by.

    Raises:
        ValueError: the metric is missing or no finite number, or the gold is no rating.
    """
    name = task.scoring.best
    value = metrics.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        found = f"is {shown(value)}" if name in metrics else "is missing"
        raise ValueError(f"metric '{name}' {found}; a finite number is needed")
    if task.scoring.kind != "rating":
        return float(value)
    largest = largest_error(gold)
    return (largest - value) / largest


def largest_error(gold: str) -> int:
    """The largest error that a prediction on the scale can have.

    Raises:
        ValueError: the gold is no whole number on the scale.
    """
    if gold.strip() not in {str(rating) for rating in range(LOWEST, HIGHEST + 1)}:
        raise ValueError(f"output {shown(gold)} is no rating from {LOWEST} to {HIGHEST}")
    rating = int(gold)
    return max(rating - LOWEST, HIGHEST - rating)
