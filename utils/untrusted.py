"""Bounds on files that came from somebody else: how large, of which kind, and where they lie."""

import os
import zipfile
from pathlib import Path

from utils.errors import UserError

LARGEST_TEXT = 1 << 30  # bytes of a file whose lines are all in memory at once
LARGEST_LINE = 1 << 26  # characters of a line or an element, of which one is in memory at a time
_MOST_PAIRS = 400_000_000  # characters times characters; a table of 1.2 GB where every word is one letter
LARGEST_HEADER = 1 << 24  # bytes; a model of 100 billion parameters has less than a tenth of that


def check_header(path: str | Path) -> None:
    """Refuse a safetensors file whose header alone would take gigabytes: the library reads up to 100 MB of JSON.

    What else is wrong with the file, the library says.

    Raises:
        UserError: the header is too large, or `path` is no plain file.
        OSError: it cannot be read.
    """
    with check_plain(Path(path)).open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > LARGEST_HEADER:
        raise UserError(
            f"{path}: not a readable safetensors file: its header would have {size} bytes, more than {LARGEST_HEADER}"
        )


def is_zip(path: Path) -> bool:
    """Whether a file begins and ends like a zip archive; `zipfile.is_zipfile` raises for some damaged ones."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return False


def check_comparable(prediction: str, target: str) -> None:
    """Refuse two texts of which ROUGE-L would make a table of gigabytes: its cells are words times words.

    Raises:
        ValueError: they are too long.
    """
    if len(prediction) * len(target) > _MOST_PAIRS:
        raise ValueError(
            f"texts of {len(prediction)} and {len(target)} characters are too long to be compared"
        )


def check_plain(path: Path) -> Path:
    """`path`, unless it is there and no plain file: opening a pipe waits for ever, and a device may have no end.

    Raises:
        UserError: it is a folder, a pipe, a device.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f"{path} is no plain file")
    return path


def check_link(path: Path, folder: Path, *others: Path) -> Path:
    """`path`, unless it is a link that leads out of the folder.

    Args:
        path: a file or folder, or nothing, in `folder`.
        folder: where it belongs; itself it may be reached through links.
        others: further folders that a link may lead to.

    Raises:
        UserError: it leads elsewhere, or in a circle.
    """
    if os.path.islink(path):  # Path's own raises for a name that is too long
        try:
            target = path.resolve()
        except (OSError, RuntimeError):
            raise UserError(f"{path} is a link in a circle") from None
        if not any(target.is_relative_to(place.resolve()) for place in (folder, *others)):
            raise UserError(f"{path} is a link that leads out of its folder; put the file itself there")
    return path


def check_links(folder: Path) -> None:
    """Refuse a folder in which a link, however deep, leads out of it: what is written there would lie elsewhere.

    Raises:
        UserError: one does.
    """
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            check_link(Path(place, name), folder)
