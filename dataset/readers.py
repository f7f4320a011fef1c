"""Readers by name: a new file format is one new module and one line here."""

from collections.abc import Callable
from pathlib import Path

from dataset.convai2.reader import read_convai2
from dataset.dialogue import Dialogue
from utils.errors import UserError, nearest

READERS: dict[str, Callable[[str | Path], list[Dialogue]]] = {
    "convai2": read_convai2,
}


def read_dialogues(path: str | Path, file_format: str) -> list[Dialogue]:
    """The dialogues in `path`.

    Raises:
        UserError: an unknown format, or what the reader finds wrong with the file.
    """
    if file_format not in READERS:
        raise UserError(f"dataset.format = '{file_format}'{nearest(file_format, READERS)}")
    return READERS[file_format](path)
