"""Files that belong together: whatever breaks between two steps, nobody finds a mixture."""

import errno
import threading
from contextlib import nullcontext

import pytest

from utils import files
from utils.errors import UserError
from utils.files import write_together

ROWS, TEXT = "result.jsonl", "result.txt"


def names(folder):
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def pair(folder):
    """The contents of the two files that belong together, None for one that is not there."""
    return tuple(
        (folder / name).read_text("utf-8") if (folder / name).exists() else None for name in (ROWS, TEXT)
    )


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
