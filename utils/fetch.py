"""Fetches one file over HTTP: resumed from its part file, checked, and put in place once it is whole.

The part file is this download's own: it is no link, and another download of the same file waits its turn. A
server is believed in nothing: what it sends is counted, and compared with a size and a checksum known before.
"""

import errno
import fcntl
import hashlib
import os
import stat
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from utils.errors import UserError
from utils.files import put_in_place, write_errors

TIMEOUT = 10.0  # seconds without an answer
CHUNK = 1 << 20  # bytes
UNKNOWN_SIZE = 1 << 30  # bytes; the most that is taken of a file whose size was not known before


class Unreachable(UserError):
    """The network did not answer; what is on disk may still be complete."""


@dataclass(frozen=True)
class Remote:
    """One file to fetch, and how to know it: `digest` is "sha256:HEX", or "git:HEX" for a git blob id."""

    url: str
    target: Path
    digest: str
    size: int | None = None  # bytes, where the server publishes it


Check = Callable[[Path, str], str | None]
"""why the content of a path is not that of the file of this name; None when it is"""


def file_digest(path: Path, kind: str) -> str:
    """Hex digest of a file; `kind` is "sha256", "md5" or "git" (SHA-1 over git's blob header and content)."""
    digest = hashlib.sha1() if kind == "git" else hashlib.new(kind)
    if kind == "git":
        digest.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def fault(path: Path, remote: Remote, check: Check) -> str | None:
    """Why `path` is not the file that `remote` promises; None when it is."""
    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        return f"it has {size} bytes, not {remote.size}"
    kind, _, promised = remote.digest.partition(":")
    if (found := file_digest(path, kind)) != promised:
        return f"its {kind} checksum is {found}, not {promised}"
    return check(path, remote.target.name)


def fetch(remote: Remote, check: Check = lambda path, name: None) -> bool:
    """Bring `remote.target` to disk, resuming its part file; False when it was there already and verifies.

    Raises:
        UserError: refused by the server, cut short (the part file stays), size, checksum or `check` differ (the
            part file is removed, the target untouched), another download of the same file is under way, or the
            disk cannot be written.
        Unreachable: the network did not answer.
    """
    target = remote.target
    with write_errors(target):
        if target.is_file():
            reason = fault(target, remote, check)
            if reason is None:
                return False
            print(f"fetching {target} again: {reason}")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        with _claimed(part) as out:
            _download(remote, out, part)
            reason = fault(part, remote, check)
            if reason is not None:
                out.truncate(0)  # resuming from wrong bytes would never succeed
                raise UserError(f"{remote.url} is not the expected file: {reason}; not put in place")
            put_in_place(part, target)
    return True


@contextmanager
def _claimed(part: Path) -> Iterator[BinaryIO]:
    """The part file, open, and nobody else's; removed when it is left empty by a failure.

    Raises:
        UserError: another download has it, or it is a link or no plain file.
    """
    with _opened_alone(part) as out:
        try:
            yield out
        except BaseException:
            out.flush()
            if os.fstat(out.fileno()).st_size == 0:
                part.unlink(missing_ok=True)
            raise


def _opened_alone(part: Path) -> BinaryIO:
    while True:
        try:
            # its owner may have planted a link there: what it points to would be overwritten
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise UserError(f"{part} is a link; remove it") from None
        out = os.fdopen(descriptor, "r+b")
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                raise UserError(f"{part} is no plain file of its own; remove it")
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{part}: another download of this file is under way") from None
            if _is_still(part, found):
                return out
            out.close()  # another download has just finished, and the file has its final name: once more
        except BaseException:
            out.close()
            raise


def _is_still(part: Path, found: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.lstat(part), found)
    except FileNotFoundError:
        return False


def _download(remote: Remote, out: BinaryIO, part: Path) -> None:
    """Append to `out` until it holds all that the server sends for `remote.url`."""
    have = out.seek(0, os.SEEK_END)
    if remote.size is not None and have == remote.size:
        return  # the last run was stopped between the last byte and the check
    if remote.size is not None and have > remote.size:
        have = 0
    response = _open(remote.url, have)
    if response is None:
        return
    with response:
        if response.status != 206:
            have = 0  # the server ignored the range and sends everything again
        out.seek(have)
        out.truncate()
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else remote.size
        most = UNKNOWN_SIZE if remote.size is None else remote.size
        _count(remote, total or 0, most, out)
        with tqdm(
            desc=remote.target.name, total=total, initial=have, unit="B", unit_scale=True, disable=None
        ) as bar:
            while chunk := _read(response, remote.url):
                have += len(chunk)
                _count(remote, have, most, out)
                out.write(chunk)
                bar.update(len(chunk))
        out.flush()
    if total is not None and have < total:
        raise UserError(
            f"{remote.url}: cut short at {have} of {total} bytes; run again to resume from {part}"
        )


def _count(remote: Remote, size: int, most: int, out: BinaryIO) -> None:
    """Stop, and keep nothing, when a server offers or sends more than it may."""
    if size > most:
        out.seek(0)
        out.truncate()
        raise UserError(
            f"{remote.url} is not the expected file: it has {size} bytes or more, not {most}; stopped"
        )


def _open(url: str, have: int) -> HTTPResponse | None:
    """The response to a request for the bytes from `have` on; None when the server has no more than that."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            return None
        raise UserError(f"{url}: the server answers {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        raise unreachable(url, error) from error


def _read(response: HTTPResponse, url: str) -> bytes:
    try:
        return response.read(CHUNK)
    except (OSError, HTTPException) as error:  # apart from the disk's own OSError around it
        raise Unreachable(f"{url}: the connection broke ({error}); run again to resume") from error


def unreachable(where: str, error: Exception) -> Unreachable:
    """The error for a server that cannot be talked to."""
    reason = getattr(error, "reason", error)  # urllib wraps the socket's own error
    return Unreachable(f"{where}: the network could not be reached ({reason})")
