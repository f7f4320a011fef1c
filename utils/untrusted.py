"""Bounds on files that came from somebody else: how large, of which kind, and where they lie."""

from pathlib import Path

from utils.errors import UserError, existing_file

LARGEST_HEADER = 1 << 24  # bytes; a model of 100 billion parameters has less than a tenth of that


def check_header(path: str | Path) -> None:
    """Refuse a safetensors file whose header alone would take gigabytes: the library reads up to 100 MB of JSON.

    What else is wrong with the file, the library says.

    Raises:
        UserError: the header is too large, or `path` is no file.
    """
    with existing_file(path, "safetensors file").open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > LARGEST_HEADER:
        raise UserError(
            f"{path}: not a readable safetensors file: its header would have {size} bytes, more than {LARGEST_HEADER}"
        )


def check_link(path: Path, folder: Path, *others: Path) -> Path:
    """`path`, unless it is a link that leads out of the folder.

    Args:
        path: a file or folder, or nothing, in `folder`.
        folder: where it belongs; itself it may be reached through links.
        others: further folders that a link may lead to.

    Raises:
        UserError: it leads elsewhere, or in a circle.
    """
    if path.is_symlink():
        try:
            target = path.resolve()
        except (OSError, RuntimeError):
            raise UserError(f"{path} is a link in a circle") from None
        if not any(target.is_relative_to(place.resolve()) for place in (folder, *others)):
            raise UserError(f"{path} is a link that leads out of its folder; put the file itself there")
    return path
