"""Own data as JSON lines: one dialogue per line, read strictly. An error names the file, the line and the key.

    {"personas": {"self": ["i ski ."], "partner": ["i cook ."]},
     "utterances": [{"speaker": "partner", "text": "hi"}, {"speaker": "self", "text": "hello"}]}

stands on one line of the file. `personas`, or a speaker in it, may be left out. Speakers take turns, either may
open, and `self` answers at least once; what `self` opens with is context, not a response. Accepted besides: blank
lines, Windows line ends, a UTF-8 byte-order mark.
"""

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from dataset.dialogue import SELF, SPEAKERS, Dialogue, Utterance
from dataset.lines import text_lines
from utils.errors import UserError, first_line, nearest, shown
from utils.files import unique_keys

_SURROGATE = re.compile("[\ud800-\udfff]")


def read_json_lines(path: str | Path) -> list[Dialogue]:
    """The dialogues of a JSON-lines file, in its order.

    Raises:
        UserError: a missing, empty or undecodable file, or a line that is not a dialogue as above.
    """
    lines = enumerate(text_lines(path), start=1)
    return [_dialogue(str(path), number, line) for number, line in lines if line.strip()]


def _dialogue(source: str, line_number: int, line: str) -> Dialogue:
    where = f"{source}:{line_number}"
    content = _fields(_parsed(line, where), where, required=("utterances",), optional=("personas",))
    personas = {
        speaker: _texts(lines, f"{where}: personas.{speaker}")
        for speaker, lines in _fields(
            content.get("personas", {}), f"{where}: personas", optional=SPEAKERS
        ).items()
    }
    utterances = tuple(
        _utterance(item, f"{where}: utterances[{index}]", line_number)
        for index, item in enumerate(_list(content["utterances"], f"{where}: utterances"))
    )
    dialogue = Dialogue(utterances, personas, source)
    if not dialogue.responses(SELF):
        raise UserError(f"{where}: utterances: '{SELF}' answers nothing, so there is no response to model")
    return dialogue


def _utterance(item: Any, where: str, line_number: int) -> Utterance:
    fields = _fields(item, where, required=("speaker", "text"))
    if not isinstance(fields["speaker"], str):
        raise UserError(f"{where}.speaker: expected a text, found {shown(fields['speaker'])}")
    return Utterance(fields["speaker"], _text(fields["text"], f"{where}.text"), line=line_number)


def _parsed(line: str, where: str) -> Any:
    try:
        return json.loads(line, object_pairs_hook=unique_keys)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise UserError(f"{where}: nested too deeply to be a dialogue") from None
    except ValueError as error:  # a key given twice, or a number of more digits than Python reads
        raise UserError(f"{where}: not JSON that can be read: {first_line(error)}") from None


def _fields(
    value: Any, where: str, required: Collection[str] = (), optional: Collection[str] = ()
) -> dict[str, Any]:
    """`value` as an object that has all the required keys and no unknown one."""
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected an object, found {shown(value)}")
    for key in value:
        if key not in required and key not in optional:
            raise UserError(f"{where}: unknown key {shown(key)}{nearest(key, (*required, *optional))}")
    for key in required:
        if key not in value:
            raise UserError(f"{where}: the key '{key}' is missing")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(f"{where}: expected a list, found {shown(value)}")
    return value


def _texts(value: Any, where: str) -> tuple[str, ...]:
    return tuple(_text(item, f"{where}[{index}]") for index, item in enumerate(_list(value, where)))


def _text(value: Any, where: str) -> str:
    """A text without the blanks around it, as the ConvAI2 reader gives it."""
    if not isinstance(value, str):
        raise UserError(f"{where}: expected a text, found {shown(value)}")
    text = value.strip()
    if not text:
        raise UserError(f"{where}: the text is empty")
    if "\n" in text:  # decoding cuts a reply there (dataset/text.py), so that it could never be given
        raise UserError(f"{where}: a line break stands inside {shown(text)}; a text is one line")
    if _SURROGATE.search(text):
        raise UserError(f"{where}: {shown(text)} holds half of a surrogate pair, which is no character")
    return text
