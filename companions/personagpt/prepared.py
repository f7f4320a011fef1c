"""Examples of dialogues for PersonaGPT, from a dialogue file or from one that preprocess_dataset wrote.

A prepared file is JSON lines. The first says how it was made, so that it is not read under other settings; each of the
others is a dialogue:

    {"personagpt": 1, "max_utterances": 20, "drop_duplicates": true, "fidelity": "paper"}
    {"facts": [["i ski."], ["i cook."]], "turns": ["hi !", "hello ."], "answers": [0, 1], "modelled": 2}
"""

import codecs
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from companions.personagpt.dialogues import Counts, PersonaDialogue, persona_dialogues, persona_examples
from companions.personagpt.released_dialogues import released_dialogues
from companions.personagpt.settings import PersonaConfig
from dataset.convai2.reader import read_convai2
from dataset.dialogue import Example
from dataset.lines import text_lines
from dataset.readers import read_dialogues
from dataset.strict_json import fields_of, items_of, parsed_line, texts_of
from utils.errors import UserError, existing_file, shown
from utils.files import json_line

_VERSION = {"personagpt": 1}
_MARK = b'{"personagpt":'


def read_persona_examples(
    path: str, config: PersonaConfig, ratio: float = 1.0, only_longest: bool = False
) -> list[Example]:
    """The examples of a dialogue file with both personas, or of a prepared file.

    Args:
        path: the file; a prepared one is known by its first line.
        config: gives the format of dialogue files, the cap, whose answers, whether duplicates are dropped, and the
            fidelity.
        ratio: share of the dialogues that is kept, from the start of the file.
        only_longest: keep the last answer of each speaker in each dialogue only.

    Raises:
        UserError: what is wrong with the file, by line; a prepared file was made under other settings.
    """
    return read_with_counts(path, config, ratio, only_longest)[0]


def read_with_counts(
    path: str, config: PersonaConfig, ratio: float = 1.0, only_longest: bool = False
) -> tuple[list[Example], Counts | None]:
    """As `read_persona_examples`, and what was left out of a dialogue file; None for a prepared one."""
    counts = None
    if is_prepared(path):
        dialogues = read_prepared(path, config)
    else:
        dialogues, counts = prepare(path, config)
    kept = dialogues[: max(1, round(len(dialogues) * ratio))]
    return persona_examples(kept, only_longest, config.dataset.speakers == "self"), counts


def read_persona_dialogues(path: str, config: PersonaConfig) -> list[PersonaDialogue]:
    """The dialogues of a dialogue file or of a prepared file, see `read_persona_examples`."""
    return read_prepared(path, config) if is_prepared(path) else prepare(path, config)[0]


def prepare(path: str, config: PersonaConfig) -> tuple[list[PersonaDialogue], Counts]:
    """The dialogues of a dialogue file as PersonaGPT uses them, and what was left out; errors as the reader's."""
    settings, released = config.dataset, config.model.released
    if settings.format == "convai2":
        dialogues = read_convai2(path, exact=True)
    else:
        dialogues = read_dialogues(path, settings.format)
    used = released_dialogues(dialogues) if released else dialogues
    if not used:
        raise UserError(
            f"{path}: fidelity: released_code loses the last dialogue of a file and those without two facts on both "
            "sides; of this file it leaves none"
        )
    kept, counts = persona_dialogues(used, settings.max_utterances, settings.drop_duplicates and not released)
    lost = len(dialogues) - len(used)
    return kept, replace(counts, dialogues=len(dialogues), discarded=counts.discarded + lost)


def is_prepared(path: str) -> bool:
    """Whether a file says in its first line that it is a prepared one.

    Raises:
        UserError: it is missing, empty, a folder, or may not be read.
    """
    with existing_file(path, "dialogue file").open("rb") as stream:
        return stream.read(100).removeprefix(codecs.BOM_UTF8).startswith(_MARK)


def prepared_text(dialogues: Sequence[PersonaDialogue], config: PersonaConfig) -> str:
    """What a prepared file holds."""
    rows: list[dict[str, Any]] = [
        {
            "facts": dialogue.facts,
            "turns": dialogue.turns,
            "answers": dialogue.answers,
            "modelled": dialogue.modelled,
        }
        for dialogue in dialogues
    ]
    return "".join(map(json_line, [{**_VERSION, **_made_with(config)}, *rows]))


def read_prepared(path: str, config: PersonaConfig) -> list[PersonaDialogue]:
    """The dialogues of a prepared file.

    Raises:
        UserError: a line that is no dialogue as above, or the file was made under other settings.
    """
    lines = [(number, line) for number, line in enumerate(text_lines(path), start=1) if line.strip()]
    (number, first), *rows = lines
    where = f"{path}:{number}"
    expected = {**_VERSION, **_made_with(config)}
    header = fields_of(parsed_line(first, where), where, required=expected)
    for key, value in expected.items():
        if header[key] != value or type(header[key]) is not type(value):
            raise UserError(
                f"{where}: the file was prepared with {key} {shown(header[key])}, the configuration has "
                f"{shown(value)}; prepare it again, or set the configuration to what the file has"
            )
    if not rows:
        raise UserError(f"{path}: the file holds no dialogue")
    return [_dialogue(line, f"{path}:{number}", config.dataset.max_utterances) for number, line in rows]


def _made_with(config: PersonaConfig) -> dict[str, Any]:
    """The settings that decide what a prepared file holds."""
    return {
        "max_utterances": config.dataset.max_utterances,
        "drop_duplicates": config.dataset.drop_duplicates,
        "fidelity": config.model.fidelity,
    }


def _dialogue(line: str, where: str, max_utterances: int) -> PersonaDialogue:
    content = fields_of(parsed_line(line, where), where, required=("facts", "turns", "answers", "modelled"))
    sides = items_of(content["facts"], f"{where}: facts")
    if len(sides) != 2:
        raise UserError(f"{where}: facts: a list for each of the two speakers is needed, found {len(sides)}")
    first, second = (texts_of(side, f"{where}: facts[{index}]") for index, side in enumerate(sides))
    turns = texts_of(content["turns"], f"{where}: turns")
    answers = items_of(content["answers"], f"{where}: answers")
    if len(turns) > max_utterances:
        raise UserError(f"{where}: turns: {len(turns)} are more than max_utterances, {max_utterances}")
    if not answers or any(type(turn) is not int or not 0 <= turn < len(turns) for turn in answers):
        raise UserError(f"{where}: answers: numbers of turns from 0 to {len(turns) - 1} are needed")
    if answers != sorted(set(answers)):
        raise UserError(f"{where}: answers: ascending numbers are needed, found {shown(answers)}")
    modelled = content["modelled"]
    if type(modelled) is not int or modelled not in (1, 2):
        raise UserError(f"{where}: modelled: 1 or 2 is needed, found {shown(modelled)}")
    return PersonaDialogue((first, second), turns, tuple(answers), (where,) * len(turns), modelled)
