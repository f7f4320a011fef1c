"""From the dialogues of a file to those of PersonaGPT: who is speaker 1, whose facts are whose, what is answered.

Speaker 1 is whoever talks first, and the two take turns, so that a turn's number tells who says it. Both speakers are
modelled: every turn is an example, answered with the facts of the speaker who says it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from companions.personagpt.prompts import speaker_of
from dataset.dialogue import PARTNER, SELF, Dialogue, Example, Utterance, is_silence
from utils.errors import UserError

_CLEAN_UP = (
    *((f" {mark}", mark) for mark in ".?!,"),
    (" ' ", "'"),
    *((f" {end}", end) for end in ("n't", "'m", "'s", "'ve", "'re")),
)
"""in this order; what decoding did to the facts of the published model"""


@dataclass(frozen=True, slots=True)
class PersonaDialogue:
    """A dialogue with the facts of both speakers."""

    facts: tuple[tuple[str, ...], tuple[str, ...]]
    """of speaker 1, who opens the dialogue, and of speaker 2"""
    turns: tuple[str, ...]
    """oldest first"""
    answers: tuple[int, ...]
    """the turns that are examples, ascending: all of them, but for duplicates"""
    where: tuple[str, ...]
    """file and line of each turn, for error messages"""
    modelled: int
    """which speaker is `self` of the file, 1 or 2: the one whose replies ConvAI2 scores"""

    def facts_at(self, turn: int) -> tuple[str, ...]:
        """The facts of the speaker who says a turn."""
        return self.facts[speaker_of(turn) - 1]


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the dialogues of a file."""

    dialogues: int
    """that were read"""
    discarded: int
    """without two facts on either side, or without two turns"""
    capped: int
    """turns beyond the largest number that is used"""
    duplicates: int
    """examples that came before: same facts, same turns"""
    examples: int
    """that are left"""

    def __str__(self) -> str:
        return (
            f"{self.dialogues} dialogues ({self.discarded} discarded), {self.examples} examples "
            f"({self.duplicates} duplicates and {self.capped} turns beyond the cap left out)"
        )


def cleaned(fact: str) -> str:
    """A fact with single spaces, and none before punctuation and shortened words."""
    fact = " ".join(fact.split())
    for spaced, plain in _CLEAN_UP:
        fact = fact.replace(spaced, plain)
    return fact


def turns_of(utterances: Sequence[Utterance]) -> tuple[Utterance, ...]:
    """What is said: all utterances, but for a `__SILENCE__` that opens the dialogue."""
    return tuple(utterances[1:] if utterances and is_silence(utterances[0].text) else utterances)


def is_complete(personas: Mapping[str, Sequence[str]], utterances: Sequence[Utterance]) -> bool:
    """Whether a dialogue is kept: more than one fact on both sides, more than one turn."""
    facts = [personas.get(side, ()) for side in (SELF, PARTNER)]
    return min(len(part) for part in (*facts, turns_of(utterances))) > 1


def persona_dialogues(
    dialogues: Sequence[Dialogue], max_utterances: int, drop_duplicates: bool
) -> tuple[list[PersonaDialogue], Counts]:
    """The dialogues that are kept, each up to `max_utterances` turns, and what was left out.

    Args:
        dialogues: with the personas of both speakers, as dataset/readers.py gives them.
        max_utterances: turns of a dialogue that are used, both speakers counted.
        drop_duplicates: leave out examples that came before.

    Raises:
        UserError: no dialogue is kept, or a fact is empty.
    """
    complete = [dialogue for dialogue in dialogues if is_complete(dialogue.personas, dialogue.utterances)]
    kept = [_dialogue(dialogue) for dialogue in complete]
    if not kept:
        raise UserError(
            f"{dialogues[0].source if dialogues else 'no dialogue'}: no dialogue has two facts of both speakers and "
            "two turns; PersonaGPT reads files with both personas, such as ConvAI2's valid_both_original_no_cands.txt"
        )
    short = [_cut(dialogue, max_utterances) for dialogue in kept]
    distinct = without_duplicates(short) if drop_duplicates else short
    total = [sum(len(dialogue.answers) for dialogue in stage) for stage in (kept, short, distinct)]
    return distinct, Counts(
        len(dialogues), len(dialogues) - len(kept), total[0] - total[1], total[1] - total[2], total[2]
    )


def without_duplicates(dialogues: Sequence[PersonaDialogue]) -> list[PersonaDialogue]:
    """Each example once, where it comes first; a dialogue without an example of its own is left out.

    ConvAI2's training file holds each dialogue twice, once as each of its speakers sees it, and a copy that
    `__SILENCE__` opens is one turn shorter or longer than the other: not dialogues but examples are compared.
    """
    seen: set[tuple[tuple[str, ...], tuple[str, ...]]] = set()
    distinct = []
    for dialogue in dialogues:
        answers = []
        for turn in dialogue.answers:
            example = (dialogue.facts_at(turn), dialogue.turns[: turn + 1])
            if example not in seen:
                seen.add(example)
                answers.append(turn)
        if answers:
            distinct.append(replace(dialogue, answers=tuple(answers)))
    return distinct


def persona_examples(
    dialogues: Sequence[PersonaDialogue], only_longest: bool = False, only_modelled: bool = False
) -> list[Example]:
    """The answers of each dialogue: those of speaker 1, then those of speaker 2.

    All answers of one speaker are parts of one text; their `dialogue` is a number of their own, so that they can
    share a forward pass.

    Args:
        dialogues: from `persona_dialogues`.
        only_longest: keep the last answer of each speaker only.
        only_modelled: keep the answers of `self` only.
    """
    examples = []
    for number, dialogue in enumerate(dialogues):
        for speaker in (dialogue.modelled,) if only_modelled else (1, 2):
            answers = [turn for turn in dialogue.answers if speaker_of(turn) == speaker]
            examples += [
                Example(
                    persona=dialogue.facts_at(turn),
                    context=dialogue.turns[:turn],
                    response=dialogue.turns[turn],
                    dialogue=2 * number + speaker - 1,
                    turn=turn // 2,
                    where=dialogue.where[turn],
                )
                for turn in (answers[-1:] if only_longest else answers)
            ]
    return examples


def _dialogue(dialogue: Dialogue) -> PersonaDialogue:
    turns = turns_of(dialogue.utterances)
    where = tuple(f"{dialogue.source}:{turn.line}" for turn in turns)
    first = turns[0].speaker
    sides = (first, PARTNER if first == SELF else SELF)
    facts = [tuple(cleaned(fact) for fact in dialogue.personas[side]) for side in sides]
    if not all(map(all, facts)):
        raise UserError(f"{where[0]}: a fact of the dialogue that begins here is empty")
    # the left field of a line is the partner's; its runs of spaces are none of the speaker's words
    texts = tuple(" ".join(turn.text.split()) if turn.speaker == PARTNER else turn.text for turn in turns)
    return PersonaDialogue((facts[0], facts[1]), texts, tuple(range(len(texts))), where, 1 + (first != SELF))


def _cut(dialogue: PersonaDialogue, count: int) -> PersonaDialogue:
    return replace(
        dialogue, turns=dialogue.turns[:count], answers=dialogue.answers[:count], where=dialogue.where[:count]
    )
