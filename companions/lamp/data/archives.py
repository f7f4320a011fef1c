"""Messages out of a folder of zip archives, read in place: nothing is unpacked to the disk, nothing is deleted."""

import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from utils.errors import UserError, first_line, shown

_LARGEST_MESSAGE = 1 << 26  # bytes; those of Avocado have some thousand
_LARGEST_ARCHIVE = 1 << 32
# the library decompresses other kinds without a limit, whatever size the archive states
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}

Located = Mapping[Path, list[str]]
"""members by archive"""


def find_messages(folder: str | Path, names: Collection[str]) -> Located:
    """Where messages lie: as in Avocado, an archive's messages are one folder deep (`140/140-000123-EM.txt`).

    Only the listings of the archives are read.

    Args:
        folder: holds the archives.
        names: of the messages, without their folder.

    Raises:
        UserError: no archive is there, one is not readable or has members that no archive of messages has, or a
            message lies in none (all such are named) or in two places.
    """
    located: dict[Path, list[str]] = {}
    places: dict[str, str] = {}
    for path in _archives(folder):
        with _opened(path) as archive:
            members = [info for info in archive.infolist() if _is_asked(info, names, path)]
        _check_sizes(members, path)
        for info in members:
            name, place = info.filename.rpartition("/")[2], f"{path}/{info.filename}"
            if name in places:
                raise UserError(f"message {name} lies in two places: {places[name]} and {place}")
            places[name] = place
            located.setdefault(path, []).append(info.filename)
    if missing := sorted(set(names) - places.keys()):
        raise UserError(f"{folder}: {len(missing)} message(s) are in no archive: {', '.join(missing)}")
    return located


def read_messages(located: Located) -> Iterator[tuple[str, str, bytes]]:
    """Name, place (for messages about it) and content of each message, one in memory at a time.

    Raises:
        UserError: an archive is not readable.
    """
    for path, members in located.items():
        with _opened(path) as archive:
            for member in members:
                yield member.rpartition("/")[2], f"{path}/{member}", archive.read(member)


def _archives(folder: str | Path) -> list[Path]:
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"folder of archives not found: {folder}")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".zip")
    if not paths:
        raise UserError(f"{folder}: no zip archive; Avocado's are in its folder data/text")
    return paths


def _is_asked(info: zipfile.ZipInfo, names: Collection[str], path: Path) -> bool:
    """Whether a member is one of the messages.

    Raises:
        UserError: its name leads out of the archive.
    """
    parts = info.orig_filename.split("/")
    if info.orig_filename.startswith("/") or ".." in parts or "\\" in info.orig_filename:
        raise UserError(f"{path}: refused: a member is named {shown(info.orig_filename)}")
    return len(parts) == 2 and parts[1] in names


def _check_sizes(members: list[zipfile.ZipInfo], path: Path) -> None:
    """Raise where reading would need more memory than messages do; the library reads no more than is stated."""
    for info in members:
        if info.compress_type not in _METHODS or info.flag_bits & 1:
            raise UserError(
                f"{path}/{info.filename}: encrypted, or compressed by another method than deflate"
            )
        if info.file_size > _LARGEST_MESSAGE:
            raise UserError(f"{path}/{info.filename}: refused: {info.file_size} bytes are no message")
    if sum(info.file_size for info in members) > _LARGEST_ARCHIVE:
        raise UserError(f"{path}: refused: more than {_LARGEST_ARCHIVE} bytes of messages")


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError, OSError) as error:
        raise UserError(f"{path}: not a readable zip archive: {first_line(error)}") from None
