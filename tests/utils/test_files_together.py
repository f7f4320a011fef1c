"""Files that belong together, and folders: whatever breaks between two steps, nobody finds a mixture."""

import errno
import os
import threading
from contextlib import nullcontext
from functools import partial

import pytest

from utils import files
from utils.errors import UserError
from utils.files import write_folder, write_together

ROWS, TEXT = "result.jsonl", "result.txt"
STEPS = ("replace", "unlink", "fsync", "rename")


def names(folder):
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def pair(folder):
    """The contents of the two files that belong together, None for one that is not there."""
    return tuple(
        (folder / name).read_text("utf-8") if (folder / name).exists() else None for name in (ROWS, TEXT)
    )


@pytest.fixture
def break_at(monkeypatch):
    """break_at(number, before): let one call of the system fail, the number-th from now; `before` sees each."""

    def arm(number, before=lambda: None):
        calls = []

        def wrap(step):
            real = getattr(os, step)

            def call(*arguments, **options):
                before()
                calls.append(step)
                if len(calls) == number:
                    raise OSError(errno.EIO, "Input/output error")
                return real(*arguments, **options)

            monkeypatch.setattr(os, step, call)

        for step in STEPS:
            wrap(step)
        return calls

    yield arm
    monkeypatch.undo()


@pytest.mark.parametrize("number", range(1, 10))
def test_a_pair_is_never_of_two_writings(tmp_path, break_at, number):
    """Whichever step fails or is the last before a crash: rows of one decoding beside the figures of another.

    The state before every step is what a crash at that step leaves.
    """
    write_together(tmp_path, {ROWS: "old", TEXT: "old"})
    seen = []
    calls = break_at(number, lambda: seen.append(pair(tmp_path)))
    expected = pytest.raises(UserError, match="cannot write .*: Input/output error")
    with expected if number <= 8 else nullcontext():
        write_together(tmp_path, {ROWS: "new", TEXT: "new"})
    seen.append(pair(tmp_path))
    assert set(seen) <= {("old", "old"), ("old", None), ("new", None), ("new", "new")}
    # flush both; the last file goes; the folder; the rows; the folder; the last file comes; the folder
    steps = ["fsync", "fsync", "unlink", "fsync", "replace", "fsync", "replace", "fsync"]
    assert calls[:number][:8] == steps[:number]
    if number <= 3:
        assert pair(tmp_path) == ("old", "old")
    assert set(names(tmp_path)) <= {ROWS, TEXT}


def test_two_writers_of_a_pair_take_turns(tmp_path):
    """Two decodings of one run at a time: the last rows of one, the last figures of the other."""

    def write(text):
        for _ in range(40):
            write_together(tmp_path, {ROWS: text, TEXT: text})

    writers = [threading.Thread(target=write, args=(text,)) for text in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert pair(tmp_path) in {("a", "a"), ("b", "b")}


def test_the_turn_is_taken_before_the_first_change(tmp_path, break_at, monkeypatch):
    """Without the lock, or with one that two may hold, two writers meet between the last file and the rows."""
    calls = break_at(0)
    lock = files.fcntl.flock

    def record(descriptor, kind):
        calls.append(kind)
        lock(descriptor, kind)

    monkeypatch.setattr(files.fcntl, "flock", record)
    write_together(tmp_path, {ROWS: "new", TEXT: "new"})
    assert calls[:4] == ["fsync", "fsync", files.fcntl.LOCK_EX, "unlink"]


def test_one_of_a_pair_that_cannot_be_staged_leaves_both(tmp_path):
    """The second file is too big for the disk: the first must not have been replaced by then."""
    write_together(tmp_path, {ROWS: "old", TEXT: "old"})

    def stop(part):
        raise OSError(errno.ENOSPC, "No space left on device")

    for new in ({ROWS: stop, TEXT: "new"}, {ROWS: "new", TEXT: stop}):
        with pytest.raises(UserError, match="No space left on device"):
            write_together(tmp_path, new)
        assert pair(tmp_path) == ("old", "old")
    assert names(tmp_path) == [ROWS, TEXT]


@pytest.mark.parametrize("number", range(1, 6))
def test_a_folder_is_swapped_whole(tmp_path, break_at, number):
    """A base LM whose weights are of one epoch and whose tokenizer is of another, or of which half is there."""
    folder = tmp_path / "model"

    def fill(text, part):
        for name in ("a", "b"):
            (part / name).write_text(text)

    write_folder(folder, partial(fill, "old"))
    calls = break_at(number)
    with pytest.raises(UserError, match=f"cannot write {folder}: Input/output error"):
        write_folder(folder, partial(fill, "new"))
    assert calls[:number] == ["fsync", "fsync", "rename", "rename", "fsync"][:number]
    assert {(folder / name).read_text() for name in ("a", "b")} == {"old" if number < 5 else "new"}
    assert names(tmp_path) == ["model"]


def test_a_folder_that_cannot_be_filled_leaves_the_old_one(tmp_path):
    """The old LM must outlive a full disk, and no half of the new one may lie about."""
    write_folder(tmp_path / "model", lambda part: (part / "a").write_text("old"))

    def stop(part):
        (part / "a").write_text("new")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match="cannot write .*/model: No space left on device"):
        write_folder(tmp_path / "model", stop)
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "a").read_text() == "old"


def test_a_folder_that_is_wanted_stays(tmp_path):
    """Whoever reads it would miss it between two renames; it is asked when all is written, not before."""
    folder, written = tmp_path / "model", []

    def fill(part):
        (part / "a").write_text("new")
        written.append(part)

    def is_there():
        assert written
        return (folder / "a").is_file()

    write_folder(folder, fill, unless=is_there)
    (folder / "a").write_text("of another writer")
    before = folder.stat().st_ino
    write_folder(folder, fill, unless=is_there)
    assert (folder / "a").read_text() == "of another writer"
    assert folder.stat().st_ino == before
    assert names(tmp_path) == ["model"]


def test_a_link_to_a_folder_is_replaced(tmp_path):
    """The old link stayed behind under the name of a part; what it points to is not ours to delete."""
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a").write_text("old")
    (tmp_path / "model").symlink_to(tmp_path / "far")
    write_folder(tmp_path / "model", lambda part: (part / "a").write_text("new"))
    assert names(tmp_path) == ["far", "model"]
    assert (tmp_path / "far" / "a").read_text() == "old"
    assert (tmp_path / "model" / "a").read_text() == "new"
