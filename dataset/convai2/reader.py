"""The ConvAI2 text format, read strictly: an error names the file and the line.

Accepted besides the plain format: blank lines, Windows line ends, a UTF-8 byte-order mark, a last line
without newline. `self`, `other`, `both` and `none` files, with and without candidates.
"""

import re
from pathlib import Path

from dataset.dialogue import Dialogue, Turn
from utils.errors import UserError, existing_file

_NUMBERED = re.compile(r"(\d{1,9}) (.*)", re.DOTALL)
_PERSONA = re.compile(r"(?:your|partner's) persona:(.*)", re.DOTALL)


def read_convai2(path: str | Path) -> list[Dialogue]:
    """The dialogues of a ConvAI2 file, in its order.

    Raises:
        UserError: a missing, empty or undecodable file, or a malformed line.
    """
    path = existing_file(path, "dialogue file")
    try:
        text = path.read_bytes().decode("utf-8-sig")  # read_text would also cut at a lone carriage return
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None
    dialogues: list[Dialogue] = []
    persona: list[str] = []
    turns: list[Turn] = []
    last_number = 0
    # split on "\n" alone: str.splitlines would also cut at U+2028 and the like, inside an utterance
    for line_number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if not line.strip():
            continue
        number, content = _numbered(path, line_number, line)
        if number == 1 and last_number:
            dialogues.append(_finished(path, line_number, persona, turns))
            persona, turns = [], []
        elif number <= last_number or (number != 1 and not last_number):
            raise UserError(
                f"{path}:{line_number}: the line is numbered {number} after {last_number}; numbers grow within "
                "a dialogue and restart at 1"
            )
        last_number = number
        match = _PERSONA.match(content)
        if match:
            if turns:
                raise UserError(f"{path}:{line_number}: a persona line stands after the first turn")
            if "\t" in content:
                raise UserError(f"{path}:{line_number}: a persona line holds a tab: {content[:40]!r}")
            persona.append(match[1].strip())
        else:
            turns.append(_turn(path, line_number, content))
    if not last_number:
        raise UserError(f"{path}: the file holds blank lines only")
    dialogues.append(_finished(path, line_number, persona, turns))
    return dialogues


def _numbered(path: Path, line_number: int, line: str) -> tuple[int, str]:
    match = _NUMBERED.fullmatch(line)
    if not match:
        raise UserError(
            f"{path}:{line_number}: a line starts with its number and one space, found {line[:40]!r}"
        )
    return int(match[1]), match[2]


def _turn(path: Path, line_number: int, content: str) -> Turn:
    fields = content.split("\t")
    if len(fields) not in (2, 4):
        raise UserError(
            f"{path}:{line_number}: expected 'utterance<TAB>response', found {len(fields)} field(s): "
            f"{content[:40]!r}"
        )
    partner, response = fields[0].strip(), fields[1].strip()
    if not partner or not response:
        raise UserError(f"{path}:{line_number}: the {'response' if partner else 'utterance'} is empty")
    candidates = tuple(fields[3].split("|")) if len(fields) == 4 else ()
    return Turn(partner, response, candidates, line_number)


def _finished(path: Path, line_number: int, persona: list[str], turns: list[Turn]) -> Dialogue:
    if not turns:
        raise UserError(f"{path}:{line_number}: the dialogue that ends before this line has no turn")
    return Dialogue(tuple(persona), tuple(turns), str(path))
