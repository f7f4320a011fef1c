"""Readers by name: a new file format is one new module and one call of `register_reader`."""

from collections.abc import Callable
from pathlib import Path

from dataset.convai2.reader import read_convai2
from dataset.dialogue import Dialogue
from dataset.json_lines import read_json_lines
from utils.errors import UserError, nearest

Reader = Callable[[str | Path], list[Dialogue]]
"""gives the dialogues of a file in its order; a fault is a UserError that names the file and the line"""

_READERS: dict[str, Reader] = {}


def register_reader(name: str, read: Reader) -> None:
    """Make `dataset.format: name` read files with `read`.

    Raises:
        ValueError: the name is taken. Files would be read by whichever module was imported last.
    """
    if name in _READERS:
        raise ValueError(f"dialogue reader '{name}' is registered twice")
    _READERS[name] = read


register_reader("convai2", read_convai2)
register_reader("json_lines", read_json_lines)


def reader_of(file_format: str) -> Reader:
    """The reader of a format.

    Raises:
        UserError: an unknown format.
    """
    if file_format not in _READERS:
        raise UserError(f"dataset.format = '{file_format}'{nearest(file_format, _READERS)}")
    return _READERS[file_format]


def read_dialogues(path: str | Path, file_format: str) -> list[Dialogue]:
    """The dialogues in `path`.

    Raises:
        UserError: an unknown format, or what the reader finds wrong with the file.
    """
    dialogues = reader_of(file_format)(path)
    if not dialogues:
        raise UserError(f"{path}: the reader '{file_format}' finds no dialogue in it")
    return dialogues
