"""JSON files one element at a time: memory holds the largest element, however many there are.

Python's own decoder reads each element, so that a key given twice, a number that is none and nesting without end are
errors with their line. (ijson passes over the first and its memory grows with the square of the last.)
"""

import codecs
import io
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from utils.errors import UserError, existing_file, first_line, shown
from utils.files import to_json, unique_keys, write_whole
from utils.untrusted import LARGEST_LINE

_CHUNK = 1 << 20  # bytes
_BLANK = re.compile(r"[ \t\r\n]*")
_LONGEST_WORD = 9  # "-Infinity": so near the end of the text a mistake may be a word that goes on


@dataclass(frozen=True)
class Document:
    """A JSON file that is in memory, such as one out of an archive."""

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name


JsonFile = str | Path | Document


def read_array(path: JsonFile, what: str) -> Iterator[Any]:
    """The elements of the array that a file holds.

    Args:
        path: the file.
        what: the file in words, for messages.

    Raises:
        UserError: there is no such file, or it is not a JSON array; by its line.
    """
    with _opened(path, what) as source:
        for _ in source.members("[]", f"{what} is an array"):
            yield source.value()
        source.end()


def read_object(path: JsonFile, what: str, array: str | None = None) -> Iterator[tuple[str, Any]]:
    """The keys and values of the object that a file holds.

    Args:
        path: the file.
        what: the file in words, for messages.
        array: a key whose value is an array that comes an element at a time, each with the key.

    Raises:
        UserError: there is no such file, or it is not a JSON object; by its line.
    """
    keys: set[str] = set()
    with _opened(path, what) as source:
        for _ in source.members("{}", f"{what} is an object"):
            key = source.value() if source.symbol() == '"' else source.take('"', "a key")
            if key in keys:
                raise source.error(f"key {shown(key)} is given twice")
            keys.add(key)
            source.take(":", "after a key")
            if key == array:
                for _ in source.members("[]", f"'{key}' is an array"):
                    yield key, source.value()
            else:
                yield key, source.value()
        source.end()


def starts_with(path: JsonFile, what: str) -> str:
    """The first character of a file that is no blank: whether it holds an array or an object; errors as above."""
    with _opened(path, what) as source:
        return source.symbol()


def write_array(path: str | Path, rows: Iterable[Any], before: str = "", after: str = "") -> None:
    """Write an array, an element on each line, and what stands before and after it.

    Raises:
        UserError: it cannot be written; an earlier file is as it was.
    """
    _write_lines(path, (f"{before}[", f"]{after}"), (to_json(row) for row in rows))


def write_object(path: str | Path, pairs: Iterable[tuple[str, Any]]) -> None:
    """Write an object, a key on each line; errors as `write_array`."""
    _write_lines(path, ("{", "}"), (f"{to_json(key)}: {to_json(value)}" for key, value in pairs))


def _write_lines(path: str | Path, brackets: tuple[str, str], lines: Iterable[str]) -> None:
    def fill(part: Path) -> None:
        with part.open("w", encoding="utf-8") as file:
            file.write(brackets[0])
            for number, line in enumerate(lines):
                file.write(f"{',' if number else ''}\n{line}")
            file.write(f"\n{brackets[1]}\n")

    write_whole(Path(path), fill)


@contextmanager
def _opened(path: JsonFile, what: str) -> "Iterator[_Source]":
    if isinstance(path, Document):
        yield _Source(str(path), io.BytesIO(path.content))
    else:
        with existing_file(path, what).open("rb") as file:
            yield _Source(str(path), file)


class _Source:
    """The text of a file from where it has been read to, as far as it is needed."""

    def __init__(self, path: str, file: BinaryIO) -> None:
        self.path, self.file = path, file
        self.text, self.start = "", 0
        self.lines = 1  # the line that `text` starts on
        self.decode = codecs.getincrementaldecoder("utf-8-sig")()
        self.json = json.JSONDecoder(object_pairs_hook=unique_keys, parse_constant=_no_number)

    def members(self, brackets: str, what: str) -> Iterator[None]:
        """One turn for each member of an array or object; the caller reads it."""
        opening, closing = brackets[0], brackets[1]
        self.take(opening, what)
        if self.symbol() == closing:
            self.take(closing, what)
        else:
            yield
            while self.take(f",{closing}", "after a value") == ",":
                yield

    def end(self) -> None:
        """Nothing but blanks is left."""
        if self.symbol():
            raise self.error(f"something follows the end of the JSON: {shown(self.symbol())}")

    def symbol(self) -> str:
        """The next character that is no blank, which stays; "" at the end."""
        while True:
            if blanks := _BLANK.match(self.text, self.start):
                self.start = blanks.end()
            if self.start < len(self.text) or not self._read_on():
                return self.text[self.start : self.start + 1]

    def take(self, symbols: str, where: str) -> str:
        """The next character that is no blank, which is one of `symbols`."""
        found = self.symbol()
        if not found or found not in symbols:
            wanted = " or ".join(f"'{symbol}'" for symbol in symbols)
            raise self.error(f"expected {wanted} ({where}), found {shown(found) if found else 'the end'}")
        self.start += 1
        return found

    def value(self) -> Any:
        """The next value."""
        self.symbol()
        while True:
            try:
                value, end = self.json.raw_decode(self.text, self.start)
            except json.JSONDecodeError as error:
                left = len(self.text) - error.pos
                cut = error.msg.startswith("Unterminated") or left <= _LONGEST_WORD
                if not (cut and self._read_on()):
                    raise self.error(f"not valid JSON: {error.msg}", len(self.text) - left) from None
            except (ValueError, RecursionError) as error:  # which know no place: `unique_keys` and the like
                deep = isinstance(error, RecursionError)
                message = "nested too deeply" if deep else first_line(error)
                raise self.error(f"not valid JSON: {message}") from None
            else:
                # a number may go on with digits, or with as much as "e+" before them
                left = len(self.text) - end
                if left > 2 or not self._read_on():
                    self.start = len(self.text) - left
                    return value

    def error(self, message: str, position: int | None = None) -> UserError:
        """A mistake at a position of `text`, by default where reading stands, as one line."""
        position = self.start if position is None else position
        line = self.lines + self.text.count("\n", 0, position)
        return UserError(f"{self.path}:{line}: {message}")

    def _read_on(self) -> bool:
        """Drop what has been read and add as much as is left, a chunk at least; False at the end of the file.

        Raises:
            UserError: it is not UTF-8, or one element has more characters than any of the benchmark's.
        """
        self.lines += self.text.count("\n", 0, self.start)
        self.text, self.start = self.text[self.start :], 0
        if len(self.text) > LARGEST_LINE:
            raise self.error(f"one element has more than {LARGEST_LINE} characters")
        content = self.file.read(max(_CHUNK, len(self.text)))
        try:
            self.text += self.decode.decode(content, final=not content)
        except UnicodeDecodeError as error:
            self.text += error.object[: error.start].decode(errors="ignore")
            raise self.error(f"not UTF-8 text ({error.reason})", len(self.text)) from None
        return bool(content)


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number")
