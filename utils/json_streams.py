"""JSON files that are too large to be held: written value by value, and still whole or not at all."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from utils.files import to_json, write_whole


def write_json_array(path: Path, values: Iterable[Any], indent: int | None = None) -> int:
    """Write an array, of which one value at a time is held.

    Args:
        path: in the place of an earlier file.
        values: of the array, in its order.
        indent: as for `json.dumps`; None: a line per value.

    Returns:
        The number of values.

    Raises:
        UserError: the file cannot be written, or a value is none of JSON's; an earlier file is as it was.
            Likewise when `values` raises.
    """
    return _write(path, "[]", (to_json(value, indent) for value in values), indent)


def write_json_object(path: Path, pairs: Iterable[tuple[str, Any]], indent: int | None = None) -> int:
    """Write an object, of which one pair at a time is held; else as `write_json_array`."""
    return _write(path, "{}", (f"{to_json(key)}: {to_json(value, indent)}" for key, value in pairs), indent)


def _write(path: Path, brackets: str, entries: Iterable[str], indent: int | None) -> int:
    count = 0
    margin = " " * (indent or 0)

    def fill(part: Path) -> None:
        nonlocal count
        with part.open("w", encoding="utf-8", newline="\n") as file:
            file.write(brackets[0])
            for entry in entries:
                # a line break within a text is escaped, so that each one here begins a line of the file
                file.write(f"{',' if count else ''}\n{margin}" + entry.replace("\n", f"\n{margin}"))
                count += 1
            file.write(f"\n{brackets[1]}\n" if count else f"{brackets[1]}\n")

    write_whole(path, fill)
    return count
