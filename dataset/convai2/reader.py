"""The ConvAI2 text format, read strictly: an error names the file and the line.

Accepted besides the plain format: blank lines, Windows line ends, a UTF-8 byte-order mark, a last line
without newline. `self`, `other`, `both` and `none` files, with and without candidates.
"""

import re
from pathlib import Path

from dataset.dialogue import PARTNER, SELF, Dialogue, Utterance
from dataset.lines import text_lines
from utils.errors import UserError

_NUMBERED = re.compile(r"(\d{1,9}) (.*)", re.DOTALL)
_PERSONA = re.compile(r"(your|partner's) persona:(.*)", re.DOTALL)
_SPEAKER = {"your": SELF, "partner's": PARTNER}

PersonaLines = list[tuple[str, str]]
"""speaker and text of each persona line"""


def read_convai2(path: str | Path, exact: bool = False) -> list[Dialogue]:
    """The dialogues of a ConvAI2 file, in its order.

    Args:
        path: the file.
        exact: utterances keep the spaces around them, and a persona line without text is a fault.

    Raises:
        UserError: a missing, empty or undecodable file, or a malformed line.
    """
    path = Path(path)
    dialogues: list[Dialogue] = []
    persona: PersonaLines = []
    utterances: list[Utterance] = []
    last_number = 0
    for line_number, line in enumerate(text_lines(path), start=1):
        if not line.strip():
            continue
        number, content = _numbered(path, line_number, line)
        if number == 1 and last_number:
            dialogues.append(_finished(path, line_number, persona, utterances))
            persona, utterances = [], []
        elif number <= last_number or (number != 1 and not last_number):
            raise UserError(
                f"{path}:{line_number}: the line is numbered {number} after {last_number}; numbers grow within "
                "a dialogue and restart at 1"
            )
        last_number = number
        match = _PERSONA.match(content)
        if match:
            if utterances:
                raise UserError(f"{path}:{line_number}: a persona line stands after the first turn")
            if "\t" in content:
                raise UserError(f"{path}:{line_number}: a persona line holds a tab: {content[:40]!r}")
            persona.append((_SPEAKER[match[1]], match[2].strip()))
            if exact and not persona[-1][1]:
                raise UserError(f"{path}:{line_number}: the persona line is empty")
        else:
            utterances += _exchange(path, line_number, content, exact)
    dialogues.append(_finished(path, line_number, persona, utterances))
    return dialogues


def _numbered(path: Path, line_number: int, line: str) -> tuple[int, str]:
    match = _NUMBERED.fullmatch(line)
    if not match:
        raise UserError(
            f"{path}:{line_number}: a line starts with its number and one space, found {line[:40]!r}"
        )
    return int(match[1]), match[2]


def _exchange(path: Path, line_number: int, content: str, exact: bool) -> tuple[Utterance, Utterance]:
    """A turn line: the partner's utterance and the response."""
    fields = content.split("\t")
    if len(fields) not in (2, 4):
        raise UserError(
            f"{path}:{line_number}: expected 'utterance<TAB>response', found {len(fields)} field(s): "
            f"{content[:40]!r}"
        )
    partner, response = (text if exact else text.strip() for text in fields[:2])
    if not partner.strip() or not response.strip():
        raise UserError(
            f"{path}:{line_number}: the {'response' if partner.strip() else 'utterance'} is empty"
        )
    candidates = tuple(fields[3].split("|")) if len(fields) == 4 else ()
    return (
        Utterance(PARTNER, partner, line=line_number),
        Utterance(SELF, response, candidates, line_number),
    )


def _finished(path: Path, line_number: int, persona: PersonaLines, utterances: list[Utterance]) -> Dialogue:
    if not utterances:
        raise UserError(f"{path}:{line_number}: the dialogue that ends before this line has no turn")
    personas = {
        speaker: tuple(text for owner, text in persona if owner == speaker) for speaker in (SELF, PARTNER)
    }
    order = tuple(speaker for speaker, _ in persona)
    return Dialogue(tuple(utterances), personas, str(path), order)
