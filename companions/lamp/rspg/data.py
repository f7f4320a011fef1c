"""The data of RSPG: questions with what a frozen LM was given and gave under each retrieval strategy.

A JSON array; of each question, beside what its file had, `gold`, and in the order of `strategies` the lists `inputs`
(prompts), `outputs` and `labels`, the values of `metric`. Files without `strategies` and `metric` are the original's:
the strategies are numbered there, and the metric is that of the task.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from companions.lamp.json_stream import read_array
from companions.lamp.tasks import Task
from companions.lamp.utilities import utility
from utils.errors import UserError, shown

_LOWER_IS_BETTER = {"loss", "mae", "rmse"}
_OF_RATINGS = {"mae", "rmse"}  # of one rating they are the same


@dataclass(frozen=True)
class Row:
    """One question under R strategies."""

    id: str
    gold: str
    strategies: tuple[str, ...]
    prompts: tuple[str, ...]
    outputs: tuple[str, ...]
    utilities: tuple[float, ...]
    """higher is better"""


def read_rows(path: str, task: Task) -> Iterator[Row]:
    """The questions of a file in its order; one is in memory at a time.

    Args:
        path: the file.
        task: says what its labels are.

    Raises:
        UserError: the file is not of this form, or of several sets of strategies; when reading comes to the mistake.
    """
    seen: set[str] = set()
    strategies: tuple[str, ...] | None = None
    for number, record in enumerate(read_array(path, "RSPG data"), start=1):
        row = _row(record, f"{path}: question {number}", path, task)
        where = f"{path}: question '{row.id}'"
        if row.id in seen:
            raise UserError(f"{where}: field 'id': an earlier question has it too")
        seen.add(row.id)
        strategies = strategies or row.strategies
        if row.strategies != strategies:
            raise UserError(
                f"{where}: its strategies are {', '.join(row.strategies)}, those of the questions before it "
                f"{', '.join(strategies)}"
            )
        yield row
    if strategies is None:
        raise UserError(f"{path}: no questions")


def _row(record: Any, where: str, path: str, task: Task) -> Row:
    if not isinstance(record, dict) or not isinstance(record.get("id"), str):
        raise UserError(f"{where}: expected an object with the text 'id', found {shown(record)}")
    where = f"{path}: question '{record['id']}'"
    gold = record.get("gold")
    if not isinstance(gold, str):
        raise _wrong(record, "gold", where, "a text")
    prompts, outputs = (_list(record, field, str, "texts", where) for field in ("inputs", "outputs"))
    labels = _list(record, "labels", (int, float), "numbers", where)
    numbered = {
        **record,
        "strategies": record.get("strategies", [str(place) for place in range(len(labels))]),
    }
    strategies = _list(numbered, "strategies", str, "names", where)
    lengths = {
        "labels": len(labels),
        "inputs": len(prompts),
        "outputs": len(outputs),
        "strategies": len(strategies),
    }
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{count} {name}" for name, count in lengths.items())
        raise UserError(f"{where}: {counts}; each strategy has one of each")
    if len(set(strategies)) < len(strategies):
        raise UserError(f"{where}: field 'strategies': a name is given twice")
    name = _metric(record, task, where)
    try:
        utilities = tuple(utility(task, {task.scoring.best: label}, gold) for label in labels)
    except ValueError as error:
        raise UserError(f"{where}: field 'labels' ({name}): {error}") from None
    return Row(record["id"], gold, tuple(strategies), tuple(prompts), tuple(outputs), utilities)


def _metric(record: dict[str, Any], task: Task, where: str) -> str:
    """The metric of the labels, from which utilities can be made."""
    name = record.get("metric", task.scoring.best)
    if not isinstance(name, str):
        raise _wrong(record, "metric", where, "a text")
    fits = name in _OF_RATINGS if task.scoring.kind == "rating" else name not in _LOWER_IS_BETTER
    if not fits:
        raise UserError(
            f"{where}: its labels are '{name}', which {task.option} cannot learn from; make the file with "
            f"--metric {task.scoring.best}"
        )
    return name


def _list(record: dict[str, Any], field: str, kind: Any, of_what: str, where: str) -> list[Any]:
    values = record.get(field)
    if not isinstance(values, list) or not values:
        raise _wrong(record, field, where, f"a list of {of_what}")
    for place, value in enumerate(values, start=1):
        if not isinstance(value, kind) or isinstance(value, bool) or _no_number(value):
            raise UserError(f"{where}: field '{field}', {place}: {shown(value)} among the {of_what}")
    return values


def _no_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _wrong(record: dict[str, Any], field: str, where: str, wanted: str) -> UserError:
    found = f"is {shown(record[field])}, expected {wanted}" if field in record else f"is missing ({wanted})"
    return UserError(f"{where}: field '{field}' {found}")
