"""Feedback on profile items: the metrics of the LM's output for a question with that one item in its prompt.

Two forms are read. The benchmark's is an object with a key for question and item:
`{"<question id>-<item id>": {"accuracy": 1.0, ...}, ...}`. The other, in files whose name ends in `.jsonl`, has a line
for each: `{"question": "<id>", "item": "<id>", "metrics": {"accuracy": 1.0, ...}}`; with `"without_profile": true`
where the item did not fit into the prompt, so that its utility is that of no item.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from companions.lamp.json_stream import read_object
from dataset.strict_json import parsed_line
from utils.errors import UserError, existing_file, shown
from utils.untrusted import LARGEST_LINE, check_plain

_SHARDS = ("scores*.json", "scores*.jsonl")


def feedback_key(question: str, item: str) -> str:
    """What the metrics of an item for a question are found under."""
    return f"{question}-{item}"


def feedback_files(path: str | Path) -> list[Path]:
    """The files of a feedback: `path` itself, or the shards in it (scores*.json, scores*.jsonl) by name.

    Raises:
        UserError: there is none.
    """
    path = Path(path)
    if not path.is_dir():
        return [existing_file(path, "feedback")]
    files = sorted(file for pattern in _SHARDS for file in path.glob(pattern))
    if not files:
        raise UserError(f"{path}: no feedback here ({' or '.join(_SHARDS)})")
    return files


def read_feedback(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The metrics of one file, each with its `feedback_key`, one at a time.

    Raises:
        UserError: the file is not of its form; by key or line.
    """
    if path.suffix != ".jsonl":
        for key, metrics in read_object(path, "feedback"):
            yield key, _metrics(metrics, f"{path}: '{key}'")
        return
    with check_plain(path).open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LARGEST_LINE), b""), start=1):
            if line.strip():
                yield _row(line, f"{path}:{number}")


def _row(line: bytes, where: str) -> tuple[str, Mapping[str, Any]]:
    row = parsed_line(line, where)
    question, item = (row.get("question"), row.get("item")) if isinstance(row, dict) else (None, None)
    if not isinstance(question, str) or not isinstance(item, str):
        raise UserError(
            f"{where}: expected an object with question, item (texts) and metrics, found {shown(row)}"
        )
    return feedback_key(question, item), _metrics(row.get("metrics"), where)


def _metrics(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected an object of metrics, found {shown(value)}")
    return value
