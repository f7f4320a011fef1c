"""Lines of JSON from others, read strictly: an error names the file, the line and the key.

In all functions `where` is that file, line and key, for error messages.
"""

import json
import re
from collections.abc import Collection
from typing import Any

from utils.errors import UserError, first_line, nearest, shown
from utils.files import unique_keys

SURROGATE = re.compile("[\ud800-\udfff]")
"""half of a character, which JSON may escape and no tokenizer takes"""


def parsed_line(line: str | bytes, where: str) -> Any:
    """What one line holds.

    Raises:
        UserError: it is not JSON, gives a key twice, or cannot be read.
    """
    try:
        return json.loads(line, object_pairs_hook=unique_keys)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise UserError(f"{where}: nested too deeply") from None
    except ValueError as error:  # a key given twice, or a number of more digits than Python reads
        raise UserError(f"{where}: not JSON that can be read: {first_line(error)}") from None


def fields_of(
    value: Any, where: str, required: Collection[str] = (), optional: Collection[str] = ()
) -> dict[str, Any]:
    """`value` as an object that has all the required keys and no unknown one.

    Raises:
        UserError: it is not.
    """
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected an object, found {shown(value)}")
    for key in value:
        if key not in required and key not in optional:
            raise UserError(f"{where}: unknown key {shown(key)}{nearest(key, (*required, *optional))}")
    for key in required:
        if key not in value:
            raise UserError(f"{where}: the key '{key}' is missing")
    return value


def items_of(value: Any, where: str) -> list[Any]:
    """`value` as a list.

    Raises:
        UserError: it is none.
    """
    if not isinstance(value, list):
        raise UserError(f"{where}: expected a list, found {shown(value)}")
    return value


def texts_of(value: Any, where: str) -> tuple[str, ...]:
    """`value` as a list of texts; errors as `items_of` and `text_of`."""
    return tuple(text_of(item, f"{where}[{index}]") for index, item in enumerate(items_of(value, where)))


def text_of(value: Any, where: str) -> str:
    """`value` as a text of one line, with the blanks around it.

    Raises:
        UserError: it is no text, is blank, or holds a line break or half of a character.
    """
    if not isinstance(value, str):
        raise UserError(f"{where}: expected a text, found {shown(value)}")
    if not (text := value.strip()):
        raise UserError(f"{where}: the text is empty")
    if "\n" in text:  # decoding cuts a reply there (dataset/text.py), so that it could never be given
        raise UserError(f"{where}: a line break stands inside {shown(text)}; a text is one line")
    if SURROGATE.search(text):
        raise UserError(f"{where}: {shown(text)} holds half of a surrogate pair, which is no character")
    return value
