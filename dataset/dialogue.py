"""What a dialogue is, whatever file it came from. Knows no template and no tokens."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange: the partner's utterance and the response of the modelled speaker."""

    partner: str
    response: str
    candidates: tuple[str, ...] = ()
    line: int = 0
    """line of the file, for error messages; counted from 1"""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Persona lines and turns, as the file gives them."""

    persona: tuple[str, ...]
    turns: tuple[Turn, ...]
    source: str = ""
    """file that the dialogue was read from, for error messages"""

    def context(self, turn: int) -> tuple[str, ...]:
        """All utterances before response `turn` (counted from 0), oldest first, ending with the partner's."""
        before = [text for past in self.turns[:turn] for text in (past.partner, past.response)]
        return (*before, self.turns[turn].partner)


@dataclass(frozen=True, slots=True)
class Example:
    """One response to be modelled: response `turn` of dialogue number `dialogue` of a file."""

    persona: tuple[str, ...]
    context: tuple[str, ...]
    response: str
    dialogue: int
    turn: int
    where: str
    """file and line, for error messages"""


def examples_of(dialogues: list[Dialogue], only_longest: bool = False) -> list[Example]:
    """Every response of every dialogue as an example, in the order of the file (spec, section 1).

    Args:
        dialogues: parsed dialogues.
        only_longest: keep the last turn of each dialogue only.
    """
    examples = []
    for number, dialogue in enumerate(dialogues):
        last = len(dialogue.turns) - 1
        for turn in range(last if only_longest else 0, last + 1):
            examples.append(
                Example(
                    persona=dialogue.persona,
                    context=dialogue.context(turn),
                    response=dialogue.turns[turn].response,
                    dialogue=number,
                    turn=turn,
                    where=f"{dialogue.source}:{dialogue.turns[turn].line}",
                )
            )
    return examples
