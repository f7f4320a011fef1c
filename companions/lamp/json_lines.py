"""A folder of JSON-lines files that processes append to: what is there stays, and what is missing is added.

Each process has a file of its own, which it holds locked. A line that a crash has cut is removed.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from dataset.strict_json import parsed_line
from utils.errors import UserError
from utils.files import json_line, take_lock, write_errors

_CHUNK = 1 << 16


class Appender:
    """Appends rows to one file, so that they are on the disk when `add` returns.

    Raises:
        UserError: the file cannot be written, or another process writes to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with write_errors(path):
            self.file = path.open("ab")
        if not take_lock(self.file.fileno()):
            self.file.close()
            raise UserError(f"{path}: another process is writing to it; wait for it, or give another folder")
        _remove_cut_line(self.path)

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows."""
        with write_errors(self.path):
            self.file.write("".join(json_line(dict(row)) for row in rows).encode("utf-8"))
            self.file.flush()
            os.fsync(self.file.fileno())

    def __enter__(self) -> "Appender":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()


def repair(paths: Iterable[Path]) -> None:
    """Remove the last line of each file where it was cut; a file that is being written to is left alone.

    Raises:
        UserError: a file cannot be changed.
    """
    for path in paths:
        with write_errors(path), path.open("ab") as file:
            if take_lock(file.fileno()):
                _remove_cut_line(path)


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file, one at a time; a last line without its end is being written, and is no row yet.

    Raises:
        UserError: a line is no JSON object, by its number.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            row = parsed_line(line, f"{path}:{number}")
            if not isinstance(row, dict):
                raise UserError(f"{path}:{number}: expected an object")
            yield row


def _remove_cut_line(path: Path) -> None:
    with write_errors(path), path.open("rb+") as file:
        end = size = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - _CHUNK)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            file.truncate(end)
