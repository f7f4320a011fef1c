"""A dictionary on the disk: what is looked up by id takes the same memory however many ids there are."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from utils.errors import UserError


class DiskTable:
    """Texts by key, in a temporary file that ends with the process; a few MB of it are held in memory.

    The file is where the system keeps temporary files, or in the folder that SQLITE_TMPDIR names.
    """

    def __init__(self) -> None:
        with _errors():
            self._database = sqlite3.connect("", isolation_level=None)
            # nobody reads it after a crash, so nothing is written twice
            for setting in ("temp_store = FILE", "journal_mode = OFF", "synchronous = OFF"):
                self._database.execute(f"PRAGMA {setting}")
            self._database.execute("CREATE TABLE texts (key BLOB PRIMARY KEY, text BLOB) WITHOUT ROWID")

    def __enter__(self) -> "DiskTable":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def add(self, key: str, text: str) -> bool:
        """Keep a text; False, and the earlier one stays, when the key has one.

        Raises:
            UserError: the disk takes no more.
        """
        with _errors():
            row = (_bytes(key), _bytes(text))
            return self._database.execute("INSERT OR IGNORE INTO texts VALUES (?, ?)", row).rowcount == 1

    def get(self, key: str) -> str | None:
        """The text of a key, or None."""
        with _errors():
            row = self._database.execute("SELECT text FROM texts WHERE key = ?", (_bytes(key),)).fetchone()
        return None if row is None else row[0].decode("utf-8", "surrogatepass")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # JSON may escape half a character


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise UserError(
            f"temporary table: {error}; SQLITE_TMPDIR=FOLDER gives it a folder with more room"
        ) from error
