"""The lines of a dialogue file, whatever its format."""

from pathlib import Path

from utils.errors import UserError, existing_file
from utils.untrusted import LARGEST_TEXT


def text_lines(path: str | Path, what: str = "dialogue file") -> list[str]:
    """The lines of a UTF-8 file without their ends, blank ones included; a byte-order mark is no text.

    Lines end in a line feed, with or without a carriage return before it, and in nothing else: str.splitlines
    and text mode would also cut at U+2028, a lone carriage return and the like, inside an utterance.

    Args:
        path: the file.
        what: what it is, for error messages.

    Raises:
        UserError: the file is missing, empty, larger than 1 GiB, holds blank lines only, or is not UTF-8.
    """
    path = existing_file(path, what, LARGEST_TEXT)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8 text (byte {error.start})") from None
    lines = text.replace("\r\n", "\n").split("\n")
    if not any(line.strip() for line in lines):
        raise UserError(f"{path}: the file holds blank lines only")
    return lines
