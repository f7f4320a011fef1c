"""Writing folders whole, as files.py does single files; and removing them."""

import ctypes
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from utils.files import PART, Content, flush_to_disk, locked, sync_folder, write_errors, write_together

_HERE, _EXCHANGE = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
_TAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}


def write_folder(
    folder: Path, fill: Callable[[Path], object], unless: Callable[[], bool] | None = None
) -> None:
    """Write a folder of files, in the place of an earlier one.

    On Linux the two exchange their names in one step. Where system or file system cannot, there is no `folder` between
    two renames: a crash just then leaves both beside it, whole, under names that start with ".part-".

    Args:
        folder: what is replaced, with all that is in it.
        fill: writes the files into the folder that it is given.
        unless: asked when they are written and no other writer is at work; True: what is there stays.

    Raises:
        UserError: it cannot be written; an earlier folder is as it was.
    """
    part = folder.with_name(PART + secrets.token_hex(8))
    old = folder.with_name(PART + secrets.token_hex(8))
    try:
        with write_errors(folder):
            part.mkdir()
            fill(part)
            for path in part.rglob("*"):
                if path.is_file():
                    flush_to_disk(path)
            with locked(folder.parent) as descriptor:
                if unless is not None and unless():
                    return
                if folder.is_symlink() or not folder.is_dir() or not _exchange(part, folder):
                    _rename(part, folder, old)
                sync_folder(descriptor)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if folder.exists():  # else the old one could not come back, and is all that there is
            if old.is_symlink():  # rmtree refuses one; what it points to is not ours to delete
                old.unlink()
            else:
                shutil.rmtree(old, ignore_errors=True)


def new_folder(folder: Path, contents: Mapping[str, Content]) -> bool:
    """Make a folder with its first files, all of it at once; False, and nothing made, when its name is taken.

    Args:
        folder: its parent is made if need be.
        contents: by file name, at least one.

    Raises:
        UserError: it cannot be made.
    """
    part = folder.with_name(PART + secrets.token_hex(8))
    try:
        with write_errors(folder):
            part.mkdir(parents=True)
            write_together(part, contents)
            if os.path.lexists(folder):
                return False
            try:
                os.rename(part, folder)
            except OSError as error:  # another one of that name, made just now, is not empty, and refuses
                if error.errno in _TAKEN:
                    return False
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return True


def remove_folder(folder: Path) -> None:
    """Delete a folder of the project's own with all that is in it.

    Raises:
        UserError: it cannot be deleted.
    """
    with write_errors(folder):
        shutil.rmtree(folder)


def remove_parts(folder: Path) -> None:
    """Delete the folders inside a folder that killed writers have left unfinished; no other writer may be at work.

    Raises:
        UserError: one of them cannot be deleted.
    """
    for path in folder.glob(PART + "*"):
        if path.is_dir() and not path.is_symlink():
            remove_folder(path)


def _exchange(one: Path, other: Path) -> bool:
    """Give two folders each other's name in one step; False: that cannot be done here."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 is None:
        return False
    return bool(renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _rename(part: Path, folder: Path, old: Path) -> None:
    """Give `part` the name of `folder`, and `folder`, where it is there, that of `old`; or change nothing."""
    if folder.exists():
        os.rename(folder, old)
    try:
        os.rename(part, folder)
    except BaseException:
        if old.exists():
            os.rename(old, folder)
        raise
