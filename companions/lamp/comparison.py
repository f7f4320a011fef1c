"""Several systems on the same questions in one table: metrics with intervals, and p against the first system."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from companions.lamp.evaluation import compare_files
from companions.lamp.significance import LEVEL, intervals, p_value
from companions.lamp.tasks import Task


def compare_systems(
    task: Task,
    golds: Path,
    predictions: Sequence[Path],
    released: bool = False,
    resamples: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """A row for each system and official metric.

    Args:
        task: of all files.
        golds: outputs file with the right outputs.
        predictions: outputs file of each system.
        released: see `companions.lamp.metrics.compare`.
        resamples: see `intervals`.
        seed: see `intervals`.

    Returns:
        `system`, `metric`, `value`, `low` and `high` of the 95 % interval, and `p` against the first system, which has
        None, as has a test that a single question does not allow.

    Raises:
        UserError: as `compare_files`.
    """
    scored = {path: compare_files(task, golds, path, released) for path in predictions}
    first = scored[predictions[0]]
    rows = []
    for path, of_one in scored.items():
        values, limits = of_one.corpus(), intervals(of_one, resamples, seed)
        for key, name in zip(task.scoring.headline, task.scoring.official, strict=True):
            p = None if of_one is first else p_value(key, first, of_one)
            rows.append(
                {
                    "system": str(path),
                    "metric": name,
                    "value": values[key],
                    "low": limits[key][0],
                    "high": limits[key][1],
                    "p": None if p is None or math.isnan(p) else p,
                }
            )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of `compare_systems` for people; an asterisk stands at p < 0.05."""
    width = max(len(row["system"]) for row in rows)
    lines = [f"{'system':{width}}  {'metric':8}   value  95 % interval     p"]
    for row in rows:
        p = "" if row["p"] is None else f"{row['p']:.4f}{'*' if row['p'] < LEVEL else ''}"
        numbers = f"{row['value']:7.4f}  {row['low']:.4f} .. {row['high']:.4f}  {p}"
        lines.append(f"{row['system']:{width}}  {row['metric']:8} {numbers}".rstrip())
    return "\n".join(lines)
