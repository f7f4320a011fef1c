"""LaMP-6 from Avocado: the benchmark's question files name messages, whose texts are put in their place.

The messages are kept in a table on the disk, so that memory does not grow with them.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from companions.lamp.data.archives import find_messages, read_messages
from companions.lamp.data.messages import Message, parse_message
from companions.lamp.disk_table import DiskTable
from companions.lamp.json_stream import write_array
from companions.lamp.questions import Question, read_questions, write_outputs
from companions.lamp.tasks import TASKS
from utils.errors import UserError
from utils.files import check_writable, to_json, write_errors

_TASK = TASKS["LaMP_6"]


def build(
    archives: str | Path, questions: Mapping[str, str | Path], folder: str | Path, time_based: bool
) -> dict[str, int]:
    """Write the questions of each split, and the outputs of all but `test`.

    Args:
        archives: folder of Avocado's zip archives (`data/text`).
        questions: the benchmark's file of each split; `input` and each item's `text` name a message.
        folder: gets `{split}_questions.json` and `{split}_outputs.json`, and is made if need be.
        time_based: the questions are those of the time-based separation: they keep `user_id`.

    Returns:
        The number of questions by split.

    Raises:
        UserError: what is wrong with a file, or messages that are in no archive; nothing has been written then.
    """
    folder = Path(folder)
    names = {
        name
        for path in questions.values()
        for question in read_questions(path, None)
        for name in _names(question, time_based)
    }
    located = find_messages(archives, names)
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    check_writable(folder)
    with DiskTable() as messages:
        for name, place, content in read_messages(located):
            try:
                message = parse_message(content)
            except ValueError as error:
                raise UserError(f"{place}: not a message that can be read: {error}") from None
            messages.add(name, to_json([message.subject, message.body]))
        return {
            split: _write_split(split, path, folder, messages, time_based)
            for split, path in questions.items()
        }


def _names(question: Question, time_based: bool) -> Iterator[str]:
    """The messages that a question names."""
    if time_based and question.user is None:
        raise question.error("field 'user_id' is missing, which files of the time-based separation have")
    yield question.input
    for item in question.profile:
        if not isinstance(item.get("text"), str):
            raise question.error("field 'text' is missing (the name of a message)", item)
        yield item["text"]


def _write_split(split: str, path: str | Path, folder: Path, messages: DiskTable, time_based: bool) -> int:
    outputs: list[tuple[str, str]] = []

    def records() -> Iterator[dict[str, Any]]:
        for question in read_questions(path, None):
            asked = _message(messages, question.input)
            outputs.append((question.id, asked.subject))
            record: dict[str, Any] = {
                "id": question.id,
                "input": _TASK.question.format(text=asked.body),
                "profile": [
                    {**item, "text": told.body, "title": told.subject}
                    for item in question.profile
                    for told in [_message(messages, item["text"])]
                ],
            }
            if time_based:
                record["user_id"] = question.record["user_id"]
            yield record

    write_array(folder / f"{split}_questions.json", records())
    if split != "test":
        write_outputs(folder / f"{split}_outputs.json", _TASK, outputs)
    return len(outputs)


def _message(messages: DiskTable, name: str) -> Message:
    text = messages.get(name)
    assert text is not None, name  # all have been found
    return Message(*json.loads(text))
