"""Files that are appended to: whole lines, one writer, and cut back to what counts."""

import fcntl
import os
from pathlib import Path

from utils.files import write_errors


def append_line(path: Path, line: str) -> None:
    """Add a line, with its end, to a file that is made where it is not there; on return it is on the disk.

    Raises:
        UserError: it cannot be written.
    """
    with write_errors(path), path.open("a+b") as stream:
        # in one write, and on a line of its own, even after one that a crash cut off
        unfinished = stream.tell() and (stream.seek(-1, os.SEEK_END), stream.read(1))[1] != b"\n"
        stream.write((b"\n" if unfinished else b"") + line.encode("utf-8"))
        stream.flush()
        os.fsync(stream.fileno())


def cut_file(path: Path, length: int) -> None:
    """Cut a file that is appended to, where it is longer; a link is not followed.

    Raises:
        UserError: it cannot be cut.
    """
    with write_errors(path):
        if path.stat().st_size <= length:
            return
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
        try:
            os.ftruncate(descriptor, length)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def take_lock(descriptor: int) -> bool:
    """Whether this process has the open file for itself from now on, until it is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems lock nothing
        return True
    return True
