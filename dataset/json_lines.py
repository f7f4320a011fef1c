"""Own data as JSON lines: one dialogue per line, read strictly. An error names the file, the line and the key.

    {"personas": {"self": ["i ski ."], "partner": ["i cook ."]},
     "utterances": [{"speaker": "partner", "text": "hi"}, {"speaker": "self", "text": "hello"}]}

stands on one line of the file. `personas`, or a speaker in it, may be left out. Speakers take turns, either may
open, and `self` answers at least once; what `self` opens with is context, not a response. Accepted besides: blank
lines, Windows line ends, a UTF-8 byte-order mark.
"""

from pathlib import Path
from typing import Any

from dataset.dialogue import SELF, SPEAKERS, Dialogue, Utterance
from dataset.lines import text_lines
from dataset.strict_json import fields_of, items_of, parsed_line, text_of, texts_of
from utils.errors import UserError, shown


def read_json_lines(path: str | Path) -> list[Dialogue]:
    """The dialogues of a JSON-lines file, in its order.

    Raises:
        UserError: a missing, empty or undecodable file, or a line that is not a dialogue as above.
    """
    lines = enumerate(text_lines(path), start=1)
    return [_dialogue(str(path), number, line) for number, line in lines if line.strip()]


def _dialogue(source: str, line_number: int, line: str) -> Dialogue:
    where = f"{source}:{line_number}"
    content = fields_of(parsed_line(line, where), where, required=("utterances",), optional=("personas",))
    personas = {
        speaker: tuple(text.strip() for text in texts_of(lines, f"{where}: personas.{speaker}"))
        for speaker, lines in fields_of(
            content.get("personas", {}), f"{where}: personas", optional=SPEAKERS
        ).items()
    }
    utterances = tuple(
        _utterance(item, f"{where}: utterances[{index}]", line_number)
        for index, item in enumerate(items_of(content["utterances"], f"{where}: utterances"))
    )
    dialogue = Dialogue(utterances, personas, source)
    if not dialogue.responses(SELF):
        raise UserError(f"{where}: utterances: '{SELF}' answers nothing, so there is no response to model")
    return dialogue


def _utterance(item: Any, where: str, line_number: int) -> Utterance:
    fields = fields_of(item, where, required=("speaker", "text"))
    if not isinstance(fields["speaker"], str):
        raise UserError(f"{where}.speaker: expected a text, found {shown(fields['speaker'])}")
    return Utterance(fields["speaker"], text_of(fields["text"], f"{where}.text").strip(), line=line_number)
