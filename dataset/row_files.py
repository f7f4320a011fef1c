"""Rows of a long job on the disk as soon as they are made: a job that ended early goes on from what is there.

A folder holds a record of the settings that the rows rest on, and JSON-lines files, one for each process, which holds
it locked. A line that a crash has cut is removed. `RowFolder` is the folder of any such job; `KeptRows` numbers the
rows and leaves nothing behind when the result that they make up is written.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from dataset.strict_json import fields_of, parsed_line
from utils.appending import take_lock
from utils.distributed import DistributedContext
from utils.errors import Terminated, UserError, first_line, shown
from utils.files import json_line, to_json, write_errors, write_whole
from utils.folders import remove_folder
from utils.liveness import together
from utils.untrusted import LARGEST_LINE, check_link, check_links, check_plain

_LOCK = "lock"
_CHUNK = 1 << 16
_LONGEST_RECORD = 1 << 24  # bytes of a record of settings

Row = dict[str, Any]


class Appender:
    """Appends rows to one file, so that they are on the disk when `add` returns.

    Raises:
        UserError: the file cannot be written, or another process writes to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with write_errors(path):
            # without a buffer, whose rest would be written on closing, after the disk was full
            self.file = path.open("ab", buffering=0)
        if not take_lock(self.file.fileno()):
            self.file.close()
            raise UserError(f"{path}: another process is writing to it; wait for it, or give another folder")
        _remove_cut_line(self.path)

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows: all of them or, where the disk takes no more, none."""
        content = memoryview("".join(json_line(dict(row)) for row in rows).encode("utf-8", "surrogatepass"))
        with write_errors(self.path):
            size = os.fstat(self.file.fileno()).st_size
            try:
                while content:
                    content = content[self.file.write(content) :]
                os.fsync(self.file.fileno())
            except OSError:
                with suppress(OSError):
                    self.file.truncate(size)
                raise

    def __enter__(self) -> "Appender":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()


class RowFolder:
    """A folder of rows that rest on the same settings.

    Args:
        folder: that is there.
        settings: name of the record of the settings.
        rows: pattern of the names of the files of rows.
    """

    def __init__(self, folder: Path, settings: str = "settings.json", rows: str = "rows.*.jsonl") -> None:
        self.folder, self.record, self.pattern = folder, folder / settings, rows

    def settings(self) -> Row | None:
        """The record, or None where there is none.

        Raises:
            UserError: it is not JSON, or no object.
        """
        if not check_link(self.record, self.folder).is_file():
            return None
        try:
            with check_plain(self.record).open("rb") as file:
                text = file.read(_LONGEST_RECORD)
        except OSError as error:
            raise UserError(f"cannot read {self.record}: {error.strerror or first_line(error)}") from None
        value = parsed_line(text, str(self.record))
        if not isinstance(value, dict):
            raise UserError(f"{self.record}: expected an object, found {shown(value)}")
        return value

    def differing(self, settings: Mapping[str, Any]) -> list[str]:
        """The keys in which the record differs from other settings; all, where there is no record."""
        there, wanted = self.settings() or {}, json.loads(to_json(settings))
        return [key for key in sorted(wanted.keys() | there.keys()) if there.get(key) != wanted.get(key)]

    def has_rows(self) -> bool:
        """Whether there is a file of rows."""
        return any(self.folder.glob(self.pattern))

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Record the settings of rows to come."""
        write_whole(self.record, to_json(settings, indent=2) + "\n")

    def clear(self) -> None:
        """Delete all rows."""
        for path in self.folder.glob(self.pattern):
            with write_errors(path):
                path.unlink()

    def repair(self) -> None:
        """Remove the last line of each file where it was cut; a file that is being written to is left alone."""
        for path in sorted(self.folder.glob(self.pattern)):
            with write_errors(path), check_plain(path).open("ab") as file:
                if take_lock(file.fileno()):
                    _remove_cut_line(path)

    def read(self) -> Iterator[tuple[str, Row]]:
        """Each row with its place, for messages; one at a time.

        Raises:
            UserError: a line is no JSON object.
        """
        for path in sorted(self.folder.glob(self.pattern)):
            for number, row in enumerate(rows_of(path), start=1):
                yield f"{path}:{number}", row


class KeptRows:
    """Numbered rows of a job whose result is written at its end; until then they lie in a folder beside it.

    Use it as a context, so that its files are closed, and whoever ends the job is told how it goes on. Rows are on the
    disk when `add` returns. Where the next job has equal settings, its `rows` and `done` hold them.

    Args:
        folder: of the rows; it is made if need be. All processes have the same one.
        settings: what the rows rest on, as the main process has it; not the number of processes. Where rows of other
            settings are there, it begins anew, which is said.
        distributed: the processes; all of them make one together.
        count: of the rows of the whole job, whose numbers are below it; None: nobody knows yet.
        keys: of each row, with the types of their values.
        resume: what goes on from the rows, in words.
        in_memory: whether `rows` holds them, too.

    Raises:
        UserError: the folder cannot be written, another job writes there, or it holds what are no rows of this job.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        distributed: DistributedContext,
        count: int | None,
        keys: Mapping[str, Any],
        resume: str = "the same command",
        in_memory: bool = True,
    ) -> None:
        self.folder, self.count, self.keys, self.in_memory = folder, count, keys, in_memory
        self.rows: dict[int, Row] = {}
        """this process's: those that it added and, on the main process, those that were there"""
        with ExitStack() as opened:
            opened.enter_context(telling_of_rows(folder, resume))
            there: set[int] = set()
            with together(distributed):
                if distributed.is_main:
                    there = self._begin(opened, settings, distributed)
            self.done: frozenset[int] = distributed.share(frozenset(there))
            """numbers of the rows that were there"""
            with together(distributed):
                self._file = opened.enter_context(Appender(folder / f"rows.{distributed.rank}.jsonl"))
            self._files = opened.pop_all()
        if self.done:
            of_all = "" if count is None else f" of {count}"
            distributed.say(f"{folder}: {len(self.done)}{of_all} are done already")

    def add(self, rows: Mapping[int, Row]) -> None:
        """Keep rows by number.

        Raises:
            UserError: they cannot be written; earlier ones are kept.
        """
        self._file.add({"number": number, "row": row} for number, row in rows.items())
        if self.in_memory:
            self.rows.update(rows)

    def read(self) -> Iterator[tuple[int, Row]]:
        """The rows of all processes, once all of them have added theirs; in no order, and one at a time.

        Raises:
            UserError: what is there is no row of this job.
        """
        for where, line in RowFolder(self.folder).read():
            fields_of(line, where, ("number", "row"))
            number, row = line["number"], fields_of(line["row"], f"{where}: row", self.keys)
            if type(number) is not int or number < 0 or (self.count is not None and number >= self.count):
                raise UserError(f"{where}: {shown(number)} is not the number of a row; delete {self.folder}")
            for key, kind in self.keys.items():
                if not isinstance(row[key], kind):
                    raise UserError(f"{where}: row: {key}: {shown(row[key])} is of a wrong type")
            yield number, row

    def left(self, batches: Sequence[Sequence[int]], distributed: DistributedContext) -> list[list[int]]:
        """This process's share of batches of numbers, without those that are done.

        Whole batches are done, but where memory was too small for one: so what is left has the same batches as from
        the start, and in a batch of other examples the last digits may be others.
        """
        left = ([number for number in batch if number not in self.done] for batch in batches)
        return [batch for batch in left if batch][distributed.rank :: distributed.size]

    def remove(self) -> None:
        """Delete the folder, once the result is written; the main process calls this."""
        remove_folder(self.folder)

    def __enter__(self) -> "KeptRows":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.__exit__(kind, error, trace)

    def _begin(
        self, opened: ExitStack, settings: Mapping[str, Any], distributed: DistributedContext
    ) -> set[int]:
        """Keep a second job out, and read the rows that are there, where they are of these settings: their numbers."""
        check_link(self.folder, self.folder.parent)  # it may have come with somebody else's run folder
        check_links(self.folder)
        with write_errors(self.folder):
            self.folder.mkdir(exist_ok=True)
            lock = opened.enter_context((self.folder / _LOCK).open("ab"))
        if not take_lock(lock.fileno()):
            raise UserError(f"{self.folder}: another job is at work there; wait for it")
        files = RowFolder(self.folder)
        there = files.settings()
        differing = files.differing(settings) if there is not None else []
        if there is None or differing:
            if differing:
                names = ", ".join(differing)
                distributed.say(f"{self.folder} is of other settings ({names} differ): it begins anew")
            files.clear()
            files.begin(settings)
            return set()
        files.repair()
        numbers = set()
        for number, row in self.read():
            numbers.add(number)
            if self.in_memory:
                self.rows.setdefault(number, row)
        return numbers


@contextmanager
def telling_of_rows(folder: Path, resume: str = "the same command") -> Iterator[None]:
    """Ctrl-C and SIGTERM in the body end with a line on what is kept, and on what goes on from it."""
    try:
        yield
    except (KeyboardInterrupt, Terminated) as error:
        error.args = (f"what is done is kept in {folder}: {resume} goes on from there",)
        raise


def remove_unused(folder: Path) -> None:
    """Delete a folder of `KeptRows` at which no job is at work.

    Raises:
        UserError: it cannot be deleted.
    """
    with write_errors(folder), (folder / _LOCK).open("ab") as lock:
        if take_lock(lock.fileno()):
            remove_folder(folder)


def rows_of(path: Path) -> Iterator[Row]:
    """The rows of a file, one at a time; a last line without its end is being written, and is no row yet.

    Raises:
        UserError: a line is no JSON object, by its number.
    """
    with check_plain(path).open("rb") as file:
        for number in count(1):
            line = file.readline(LARGEST_LINE)
            if not line.endswith(b"\n"):
                if len(line) == LARGEST_LINE:
                    raise UserError(f"{path}:{number}: the line has more than {LARGEST_LINE} bytes")
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
