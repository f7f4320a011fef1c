"""Writing files whole: whoever reads, and whatever breaks, finds the old content or the new, never a part of one.

Every file that a run writes at one go comes through here, and through folders.py where it is one of a folder. Content
goes to a file of its own beside the target, made exclusively under a name that nobody can guess (two writers never meet
in it, a planted link is not followed), is flushed to the disk, and only then takes the target's name.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from utils.errors import UserError, first_line, shown

Content = str | bytes | Callable[[Path], object]
"""text (written as UTF-8), bytes, or a function that writes to the path it is given"""

PART = ".part-"
"""how the name of what is not whole yet begins"""
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def write_whole(path: Path, content: Content) -> None:
    """Write one file, in the place of an earlier one.

    Raises:
        UserError: it cannot be written; an earlier file is as it was.
    """
    write_together(path.parent, {path.name: content})


def write_together(folder: Path, contents: Mapping[str, Content]) -> None:
    """Write files that belong together, so that no crash leaves new ones beside old ones.

    The last one is removed before the others change, and written last: where it is there, all are of one write.
    Two writers take turns.

    Args:
        folder: where all of them lie.
        contents: by file name.

    Raises:
        UserError: one of them cannot be written. What was there is as it was, or lacks the last one.
    """
    paths = [folder / name for name in contents]
    *others, last = paths
    parts: dict[Path, Path] = {}
    try:
        for path, content in zip(paths, contents.values(), strict=True):
            with write_errors(path):
                parts[path] = part = _new_part(folder)
                _fill(part, content)
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, "a folder has its name")
        with write_errors(last), locked(folder) as descriptor:
            if others:
                last.unlink(missing_ok=True)
                sync_folder(descriptor)
            for path in others:
                os.replace(parts[path], path)
            if others:
                sync_folder(descriptor)
            os.replace(parts[last], last)
            sync_folder(descriptor)
    finally:
        for part in parts.values():
            with contextlib.suppress(OSError):  # most have moved; one that stays behind harms nobody
                part.unlink()


def write_new(path: Path, content: Content) -> bool:
    """Write a file under a name that is free; False, and nothing written, when it is taken.

    Raises:
        UserError: it cannot be written.
    """
    with write_errors(path):
        part = _new_part(path.parent)
        try:
            _fill(part, content)
            with locked(path.parent) as descriptor:
                try:
                    os.link(part, path)
                except FileExistsError:
                    return False
                except OSError as error:
                    if error.errno not in _NO_LINKS:
                        raise
                    if os.path.lexists(path):  # the lock keeps other writers of ours out
                        return False
                    os.replace(part, path)
                sync_folder(descriptor)
        finally:
            part.unlink(missing_ok=True)
    return True


def put_in_place(part: Path, path: Path) -> None:
    """Give a finished file of the same folder its name.

    Raises:
        UserError: that cannot be done; `part` stays.
    """
    with write_errors(path):
        flush_to_disk(part)
        with locked(path.parent) as descriptor:
            os.replace(part, path)
            sync_folder(descriptor)


def check_writable(folder: Path) -> None:
    """Find out before hours of work whether files can be written to a folder.

    Raises:
        UserError: they cannot.
    """
    with write_errors(folder):
        _new_part(folder).unlink()


def file_sha256(path: str | Path) -> str | None:
    """Hex digest of a file's content; None when it is not there.

    Raises:
        UserError: it cannot be read.
    """
    if not os.path.isfile(path):
        return None
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or first_line(error)}") from error
    return digest.hexdigest()


def file_stats(folder: Path) -> list[list[Any]]:
    """Name, size and time (ns) of every file in a folder, which tell a change of files that take long to read."""
    stats = ((path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file())
    return [[str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns] for path, stat in stats]


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON text.

    Raises:
        UserError: a number in it is not finite: JSON has no word for that, and other programs cannot read it.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    except ValueError as error:
        where = ""
        if isinstance(value, Mapping):
            where = next((f" '{key}'" for key, item in value.items() if not _is_json(item)), "")
        raise UserError(
            f"{where.strip() or 'a value'} cannot be written as JSON: {first_line(error)}"
        ) from None


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `json.loads(text, object_pairs_hook=unique_keys)`, which alone keeps the last of equal keys in silence.

    Raises:
        ValueError: a key is given twice.
    """
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"key {shown(key)} is given twice")
        content[key] = value
    return content


def json_line(row: dict[str, Any]) -> str:
    """One line of a JSON-lines file; errors as `to_json`."""
    return to_json(row) + "\n"


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """What the system or a library says when `path` cannot be written, as one line that names it."""
    try:
        yield
    except (OSError, SafetensorError, UnicodeEncodeError) as error:
        raise UserError(
            f"cannot write {path}: {getattr(error, 'strerror', None) or first_line(error)}"
        ) from error
    except Exception as error:
        if type(error) is not Exception:  # the tokenizers library has no other kind
            raise
        raise UserError(f"cannot write {path}: {first_line(error)}") from error


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _new_part(folder: Path) -> Path:
    """An empty file that did not exist before, with the rights that the user's umask leaves."""
    part = folder / (PART + secrets.token_hex(8))
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    return part


def _fill(part: Path, content: Content) -> None:
    if callable(content):
        mode = stat.S_IMODE(part.stat().st_mode)
        content(part)
        os.chmod(part, mode)  # safetensors puts a file of its own there, which only its owner may read
    else:
        part.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    flush_to_disk(part)


def flush_to_disk(path: Path) -> None:
    """Wait until a file is on the disk: a full one may say so only now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int]:
    """An open descriptor of a folder, which one writer at a time holds."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # some network file systems lock no folder: writers do not take turns
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def sync_folder(descriptor: int) -> None:
    """Names are on the disk, too, where the file system can be asked for that."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
