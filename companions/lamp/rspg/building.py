"""The data of RSPG from questions, golds, and the LM's feedback under each strategy."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from companions.lamp.disk_table import DiskTable
from companions.lamp.json_stream import read_object, write_array
from companions.lamp.questions import Question, read_outputs, read_questions
from utils.errors import UserError, existing_file, nearest, shown
from utils.files import to_json

_SCORES = "scores.json"


def build_data(
    feedback: Sequence[Path], questions: Path, golds: Path, metric: str, data: Path, names: Sequence[str] = ()
) -> int:
    """Write the data of RSPG, see companions/lamp/rspg/data.py.

    The questions are read one at a time, feedback and golds into tables on the disk, so that memory does not depend
    on their number.

    Args:
        feedback: for each strategy the folder that retriever_utilization_scorer wrote, or its `scores.json`.
        questions: the questions file.
        golds: its outputs file; of two golds of one question the first counts.
        metric: which metric of the feedback becomes the label.
        data: the file to write.
        names: of the strategies; by default those of the folders.

    Returns:
        The number of questions.

    Raises:
        UserError: a file that is none, a question without gold or without feedback, feedback on what is no question,
            or feedback without the metric; an earlier file `data` is as it was.
    """
    strategies = _names(feedback, names)
    with ExitStack() as stack:
        tables = [stack.enter_context(_Feedback(path, metric)) for path in feedback]
        gold_table = stack.enter_context(DiskTable())
        for name, gold in read_outputs(golds, None):
            gold_table.add(name, gold)

        def row(question: Question) -> dict[str, Any]:
            gold = gold_table.get(question.id)
            if gold is None:
                raise question.error(f"it has no output in {golds}")
            found = [table.take(question) for table in tables]
            record = {key: value for key, value in question.record.items() if key != "profile"}
            columns = {key: [one[key] for one in found] for key in ("labels", "outputs", "inputs")}
            return {**record, "gold": gold, **columns, "strategies": strategies, "metric": metric}

        def rows() -> Iterator[dict[str, Any]]:
            yield from map(row, read_questions(questions, None))
            for table in tables:
                table.check_all_taken(questions)

        write_array(data, rows())
        return tables[0].taken


def _names(feedback: Sequence[Path], names: Sequence[str]) -> list[str]:
    if names and len(names) != len(feedback):
        raise UserError(f"--names: {len(names)} names of {len(feedback)} strategies")
    found = list(names) or [path.resolve().name for path in feedback]
    name, times = Counter(found).most_common(1)[0]
    if times > 1:
        raise UserError(f"{times} strategies are called '{name}'; --names gives each its own")
    return found


class _Feedback(DiskTable):
    """The feedback under one strategy, by question."""

    def __init__(self, path: Path, metric: str) -> None:
        self.path = existing_file(path / _SCORES if path.is_dir() else path, "feedback")
        self.metric = metric
        self.size = self.taken = 0
        super().__init__()

    def __enter__(self) -> "_Feedback":
        for name, record in read_object(self.path, "feedback"):
            self.add(name, to_json(self._entry(record, f"{self.path}: question '{name}'")))
            self.size += 1
        return self

    def _entry(self, record: Any, where: str) -> dict[str, Any]:
        metrics = record.get("metric") if isinstance(record, dict) else None
        if not isinstance(metrics, dict):
            raise UserError(
                f"{where}: expected an object with metric, output and input, found {shown(record)}"
            )
        for key in ("output", "input"):
            if not isinstance(record.get(key), str):
                raise UserError(f"{where}: field '{key}' is {shown(record.get(key))}, expected a text")
        return {"labels": self._label(metrics, where), "outputs": record["output"], "inputs": record["input"]}

    def _label(self, metrics: Mapping[str, Any], where: str) -> float:
        if self.metric not in metrics:
            raise UserError(
                f"{where}: no metric '{self.metric}'{nearest(self.metric, metrics)} (it has {', '.join(metrics)})"
            )
        value = metrics[self.metric]
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
            raise UserError(f"{where}: metric '{self.metric}' is {shown(value)}, expected a finite number")
        return value

    def take(self, question: Question) -> dict[str, Any]:
        """The feedback on a question."""
        found = self.get(question.id)
        if found is None:
            raise question.error(f"no feedback in {self.path}")
        self.taken += 1
        entry: dict[str, Any] = json.loads(found)
        return entry

    def check_all_taken(self, questions: Path) -> None:
        """All feedback was that of a question of the file."""
        if self.taken == self.size:
            return
        known = {question.id for question in read_questions(questions, None)}
        unknown = next(name for name, _ in read_object(self.path, "feedback") if name not in known)
        more = self.size - self.taken
        raise UserError(
            f"{self.path}: feedback on '{unknown}' ({more} in all), which is no question of {questions}"
        )
