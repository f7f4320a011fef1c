"""What a dialogue is, whatever file it came from. Knows no template and no tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, overload

from utils.errors import UserError, nearest, shown

SELF = "self"
"""the speaker that is modelled"""
PARTNER = "partner"
SPEAKERS = (SELF, PARTNER)
SILENCE = "__SILENCE__"
"""what ConvAI2 writes as the first words of a dialogue that the other speaker opens; nobody said them"""
Silence = Literal["keep", "drop", "skip"]
"""of a `__SILENCE__` that opens a dialogue: it stays in the texts; it is no part of them, and the answer to it begins
the dialogue; that answer is no example either"""


@dataclass(frozen=True, slots=True)
class Utterance:
    """What one speaker says before the other one answers."""

    speaker: str
    text: str
    candidates: tuple[str, ...] = ()
    """responses to choose from, where the file gives them; the true one is among them"""
    line: int = 0
    """line of the file, for error messages; counted from 1"""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Utterances of two speakers who take turns, and a persona for each.

    Raises:
        UserError: an unknown speaker, or two utterances of one speaker in a row. The template labels utterances
            alternately, so that such a dialogue would put one speaker's words into the other's mouth.
        ValueError: `persona_order` does not name one speaker for each persona line.
    """

    utterances: tuple[Utterance, ...]
    """oldest first"""
    personas: Mapping[str, tuple[str, ...]]
    """persona lines by speaker; a speaker without persona may be left out"""
    source: str = ""
    """file that the dialogue was read from, for error messages"""
    persona_order: tuple[str, ...] = ()
    """the speaker of each persona line in the order of the file, where the format has one order for the lines of
    both; () for those of `self`, then those of `partner`"""

    def __post_init__(self) -> None:
        for speaker in self.personas:
            _check_speaker(speaker, f"{self.source}: personas")
        before = None
        for index, utterance in enumerate(self.utterances):
            where = f"{self.source}:{utterance.line}: utterances[{index}].speaker"
            _check_speaker(utterance.speaker, where)
            if utterance.speaker == before:
                raise UserError(f"{where}: '{before}' speaks twice in a row; speakers take turns")
            before = utterance.speaker
        speakers = [speaker for speaker, lines in self.personas.items() for _ in lines]
        if self.persona_order and sorted(self.persona_order) != sorted(speakers):
            raise ValueError("persona_order does not name one speaker for each persona line")

    @property
    def persona(self) -> tuple[str, ...]:
        """The persona lines of both speakers, in the order of the file."""
        if not self.persona_order:
            return tuple(line for speaker in SPEAKERS for line in self.personas.get(speaker, ()))
        remaining = {speaker: iter(lines) for speaker, lines in self.personas.items()}
        return tuple(next(remaining[speaker]) for speaker in self.persona_order)

    @property
    def opens_with_silence(self) -> bool:
        """Whether its first utterance is `__SILENCE__`."""
        return bool(self.utterances) and is_silence(self.utterances[0].text)

    def responses(self, speaker: str = SELF) -> list[int]:
        """Where in `utterances` the speaker answers: all of the speaker's, except one that opens the dialogue."""
        return [
            index for index, utterance in enumerate(self.utterances) if index and utterance.speaker == speaker
        ]


def is_silence(text: str) -> bool:
    """Whether an utterance says that nothing was said."""
    return text.strip() == SILENCE


def _check_speaker(speaker: str, where: str) -> None:
    if speaker not in SPEAKERS:
        raise UserError(f"{where}: unknown speaker {shown(speaker)}{nearest(speaker, SPEAKERS)}")


@dataclass(frozen=True, slots=True, eq=False)
class Beginning(Sequence[str]):
    """The first texts of a dialogue, like a tuple of them: copies for each of 10,000 turns would take gigabytes."""

    texts: tuple[str, ...]
    """of the whole dialogue"""
    end: int
    """how many of them"""

    def __len__(self) -> int:
        return self.end

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[str, ...]: ...
    def __getitem__(self, place: int | slice) -> str | tuple[str, ...]:
        if isinstance(place, slice):
            start, stop, step = place.indices(self.end)
            return self.texts[start:stop:step] if step > 0 else tuple(self)[place]
        return self.texts[range(self.end)[place]]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (tuple, Beginning)) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(self[:])


@dataclass(frozen=True, slots=True)
class Example:
    """One response to be modelled: a speaker's response `turn` of dialogue number `dialogue` of a file."""

    persona: tuple[str, ...]
    context: Sequence[str]
    """all that was said before, oldest first; the other speaker's words are the last. Empty where the response begins
    the dialogue"""
    response: str
    dialogue: int
    turn: int
    """which of the speaker's responses in the dialogue, counted from 0"""
    where: str
    """file and line, for error messages"""


def examples_of(
    dialogues: Sequence[Dialogue],
    only_longest: bool = False,
    speaker: str = SELF,
    personas: Literal["all", "own"] | None = None,
    silence: Silence = "keep",
) -> list[Example]:
    """Every response of one speaker as an example, in the order of the file (docs/method.md, section 1).

    Args:
        dialogues: parsed dialogues.
        only_longest: keep the last response of each dialogue only.
        speaker: whose responses; the context and the persona are what this speaker sees.
        personas: "own" for the speaker's persona lines, "all" for every line of the dialogue in the order of the
            file. None is "all" for `self`, as SPT reads files with both personas, and "own" for `partner`,
            who would else be given the persona of `self`.
        silence: what becomes of a `__SILENCE__` that opens a dialogue.
    """
    if personas is None:
        personas = "all" if speaker == SELF else "own"
    examples = []
    for number, dialogue in enumerate(dialogues):
        persona = dialogue.persona if personas == "all" else dialogue.personas.get(speaker, ())
        first = int(
            silence != "keep" and dialogue.opens_with_silence
        )  # the utterance that contexts begin with
        texts = tuple(utterance.text for utterance in dialogue.utterances[first:])
        indices = [index - first for index in dialogue.responses(speaker)]
        responses = list(enumerate(index for index in indices if index or silence == "drop"))
        for turn, index in responses[-1:] if only_longest else responses:
            examples.append(
                Example(
                    persona=persona,
                    context=Beginning(texts, index),
                    response=texts[index],
                    dialogue=number,
                    turn=turn,
                    where=f"{dialogue.source}:{dialogue.utterances[first + index].line}",
                )
            )
    return examples
