"""Pairs of prompt and reply as text, in CSV and in JSON lines; action_data.py says what they mean."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from dataset.lines import text_lines
from dataset.strict_json import fields_of, parsed_line, text_of
from utils.appending import append_line
from utils.errors import UserError, nearest, shown
from utils.files import json_line

_COLUMNS = ("context", "response")
_WHAT = "file of action codes"


class TextPair(NamedTuple):
    """A prompt and a reply with their special tokens as text."""

    context: str
    response: str
    goal: str | None
    """where the file says it"""
    where: str
    """file and line, for error messages"""


def text_pairs(path: str | Path) -> list[TextPair]:
    """The pairs of a .csv or .jsonl file, in its order.

    Raises:
        UserError: another ending, no pair, or what is wrong with the file, by line.
    """
    readers = {".csv": _csv_pairs, ".jsonl": _json_pairs}
    suffix = Path(path).suffix.lower()
    if suffix not in readers:
        raise UserError(f"{path}: a {_WHAT} is a .csv or a .jsonl file")
    pairs = list(readers[suffix](Path(path)))
    if not pairs:
        raise UserError(f"{path}: the file holds no example")
    return pairs


def pairs_text(pairs: Iterable[TextPair]) -> str:
    """What a file of JSON lines with these pairs holds."""
    return "".join(map(_line, pairs))


def append_pair(path: Path, pair: TextPair) -> None:
    """Add a pair to a file of JSON lines, which is made where it is not there; on return it is on the disk.

    Raises:
        UserError: it cannot be written.
    """
    append_line(path, _line(pair))


def _line(pair: TextPair) -> str:
    goal = {} if pair.goal is None else {"goal": pair.goal}
    return json_line({"context": pair.context, "response": pair.response, **goal})


def _json_pairs(path: Path) -> Iterator[TextPair]:
    for number, line in enumerate(text_lines(path, _WHAT), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        fields = fields_of(parsed_line(line, where), where, required=_COLUMNS, optional=("goal",))
        texts = {key: text_of(value, f"{where}: {key}") for key, value in fields.items()}
        yield TextPair(texts["context"], texts["response"], texts.get("goal"), where)


def _csv_pairs(path: Path) -> Iterator[TextPair]:
    rows = csv.reader((f"{line}\n" for line in text_lines(path, _WHAT)), strict=True)
    number = 1
    try:
        header = next(rows)
        for column in header:
            if column not in _COLUMNS or header.count(column) > 1:
                raise UserError(
                    f"{path}:1: the columns are context and response, found {shown(column)}"
                    f"{nearest(column, _COLUMNS)}"
                )
        if len(header) != len(_COLUMNS):
            raise UserError(f"{path}:1: the first line names the columns context and response")
        number = rows.line_num + 1
        for row in rows:
            where = f"{path}:{number}"
            number = rows.line_num + 1
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                raise UserError(
                    f"{where}: expected 2 columns, found {len(row)}; texts with commas need quotes"
                )
            texts = {key: text_of(cell, f"{where}: {key}") for key, cell in zip(header, row, strict=True)}
            yield TextPair(texts["context"], texts["response"], None, where)
    except csv.Error as error:
        raise UserError(f"{path}:{number}: not CSV: {error}") from None
