"""The benchmark's files, read strictly: questions and merged files one question at a time, outputs and predictions.

An error names the file, the id and the field.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from companions.lamp.disk_table import DiskTable
from companions.lamp.json_stream import JsonFile, read_array, read_object, starts_with, write_array
from companions.lamp.tasks import Item, Task, task_of
from dataset.strict_json import SURROGATE
from utils.errors import UserError, shown
from utils.files import to_json


@dataclass(frozen=True)
class Question:
    """One question with its user's profile."""

    id: str
    input: str
    profile: tuple[Item, ...]
    user: str | None
    """whose profile it is; None where the file does not say (user-based files)"""
    output: str | None
    """the gold output, in merged files"""
    record: Mapping[str, Any]
    """the question as the file has it"""
    path: str

    def error(self, message: str, item: Item | None = None) -> UserError:
        """A mistake in this question, or in one item of its profile, as one line with the file and the ids."""
        of_item = "" if item is None else f", profile item '{item['id']}'"
        return UserError(f"{self.path}: question '{self.id}'{of_item}: {message}")


def read_questions(path: str | Path, task: Task | None, need_output: bool = False) -> Iterator[Question]:
    """The questions of a questions file or a merged file, in its order; one is in memory at a time.

    Args:
        path: the file.
        task: says which text fields the items have; None: they are not looked at.
        need_output: each question must have `output`, as after a merge with the golds.

    Raises:
        UserError: the file is no array of questions; when reading comes to the mistake.
    """
    seen: set[str] = set()
    for number, record in enumerate(read_array(path, "questions file"), start=1):
        question = parse_question(record, f"{path}: question {number}", str(path), task)
        if question.id in seen:
            raise question.error("field 'id': an earlier question has it too")
        if need_output and question.output is None:
            raise question.error("field 'output' is missing; merge the questions with their outputs")
        seen.add(question.id)
        yield question


def read_outputs(path: JsonFile, task: Task | None, what: str = "outputs file") -> Iterator[tuple[str, str]]:
    """The outputs, golds or predictions: pairs of a question's id and its output, in the file's order.

    Both shapes are read: `{"task": ..., "golds": [...]}` and the array alone. A number is accepted as an output,
    except of a task whose outputs are texts.

    Args:
        path: the file.
        task: what its `task` must be; None: any.
        what: the file in words, for messages.

    Raises:
        UserError: it is no such file, or of another task; when reading comes to the mistake.
    """
    for number, record in enumerate(_golds(path, task, what), start=1):
        where = f"{path}: output {number}"
        if not isinstance(record, dict):
            raise UserError(f"{where}: expected an object with id and output, found {shown(record)}")
        name = _text(record, "id", where)
        yield name, _output(record, task, f"{path}: output of '{name}'")


def write_outputs(path: str | Path, task: Task, outputs: Iterable[tuple[str, str]]) -> None:
    """Write golds or predictions, pairs of id and output, as the benchmark's own object; one is in memory at a time.

    Raises:
        UserError: it cannot be written, or an id comes twice.
    """

    def rows() -> Iterator[Mapping[str, str]]:
        with DiskTable() as seen:
            for name, output in outputs:
                if not seen.add(name, ""):
                    raise UserError(f"cannot write {path}: question '{name}' has several outputs")
                yield {"id": name, "output": output}

    write_array(path, rows(), before=f'{{"task": {to_json(task.name)}, "golds": ', after="}")


def stated_task(name: str, path: JsonFile) -> Task:
    """The task that a file names.

    Raises:
        UserError: there is none; with the file.
    """
    try:
        return task_of(name)
    except UserError as error:
        raise UserError(f"{path}: field 'task': {error}") from None


def parse_question(record: Any, where: str, path: str, task: Task | None) -> Question:
    """A question from what a file has in its place.

    Args:
        record: that.
        where: the place in words, for messages about a record without an id.
        path: the file.
        task: see `read_questions`.

    Raises:
        UserError: it is no question, by its id and field.
    """
    if not isinstance(record, dict):
        raise UserError(f"{where}: expected an object, found {shown(record)}")
    name = _text(record, "id", where)
    where = f"{path}: question '{name}'"
    profile = record.get("profile")
    if not isinstance(profile, list):
        raise _wrong(record, "profile", where, "an array of items")
    ids: set[str] = set()
    for number, item in enumerate(profile, start=1):
        _check_item(item, f"{where}, profile item {number}", task.fields if task else ())
        if item["id"] in ids:
            raise UserError(f"{where}, profile item '{item['id']}': field 'id': an earlier item has it too")
        ids.add(item["id"])
    user = record.get("user_id")
    if user is not None and (isinstance(user, bool) or not isinstance(user, str | int)):
        raise _wrong(record, "user_id", where, "a text or a whole number")
    return Question(
        id=name,
        input=_text(record, "input", where),
        profile=tuple(profile),
        user=None if user is None else str(user),
        output=_output(record, task, where) if "output" in record else None,
        record=record,
        path=path,
    )


def _check_item(item: Any, place: str, fields: Iterable[str]) -> None:
    """Raise the mistake of a profile item, if it has one; `place` names the question and the item's number."""
    if not isinstance(item, dict):
        raise UserError(f"{place}: expected an object, found {shown(item)}")
    if not _is_text(item.get("id")):
        raise _no_text(item, "id", place)
    for field in fields:
        if not _is_text(item.get(field)):
            raise _no_text(item, field, f"{place} ('{item['id']}')")
    date = item.get("date", "")
    if not isinstance(date, str | int) or isinstance(date, bool):
        raise _wrong(item, "date", f"{place} ('{item['id']}')", "a text or a whole number")


def _golds(path: JsonFile, task: Task | None, what: str) -> Iterator[Any]:
    if starts_with(path, what) == "[":
        yield from read_array(path, what)
        return
    found = set()
    for key, value in read_object(path, what, array="golds"):
        found.add(key)
        if key == "golds":
            yield value
        elif key == "task":
            named = stated_task(_text({key: value}, key, str(path)), path)
            if task is not None and named is not task:
                raise UserError(f"{path}: field 'task' is '{value}', expected {task.name}")
    for key in ("task", "golds"):
        if key not in found:
            raise UserError(f"{path}: field '{key}' is missing{', or empty' if key == 'golds' else ''}")


def _output(record: Mapping[str, Any], task: Task | None, where: str) -> str:
    value = record.get("output")
    texts = task is not None and task.scoring.kind == "text"
    if not texts and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return _text(record, "output", where)


def _text(record: Mapping[str, Any], field: str, where: str) -> str:
    value = record.get(field)
    if not _is_text(value):
        raise _no_text(record, field, where)
    return str(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and (value.isascii() or not SURROGATE.search(value))


def _no_text(record: Mapping[str, Any], field: str, where: str) -> UserError:
    if isinstance(record.get(field), str):
        return UserError(f"{where}: field '{field}' holds half a character (a lone surrogate)")
    return _wrong(record, field, where, "a text")


def _wrong(record: Mapping[str, Any], field: str, where: str, wanted: str) -> UserError:
    found = f"is {shown(record[field])}, expected {wanted}" if field in record else f"is missing ({wanted})"
    return UserError(f"{where}: field '{field}' {found}")
