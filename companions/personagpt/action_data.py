"""Examples of action codes: replies and the prompts that they answer, as CSV or JSON lines.

Both have `context` and `response`, in which the special tokens stand as text; a CSV file has these two columns, a JSON
line these two keys and, if it likes, `goal`, which says again what the context does:

    {"context": "<|act|>ask about pets.<|sep|><|p1|><|sep|><|start|>hi !<|endoftext|>",
     "response": "do you have a dog ?<|endoftext|>"}

stands on one line. The context is an action prompt, variant A or B, or the persona prompt of either speaker
(prompts.py); before turn 0 `<|start|>` stands first in the response. Every turn, and so the response, ends with one
`<|endoftext|>`; a response that does not is refused, as an LM trained on it would not learn to stop. Blanks beside the
other special tokens are no text.

What is read is not ids but goal, facts and turns: the prompt is built from them as inference builds it, in the layout
that `model.action_prompt` names and with the goal's own phrase. `model.fidelity: released_code` keeps both as they
stand.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from companions.personagpt.action_files import TextPair, text_pairs
from companions.personagpt.actions import goal_by_phrase, goals_in
from companions.personagpt.prompts import ActionVariant, PersonaEncoder, action_prefix, persona_prefix
from companions.personagpt.settings import PersonaConfig
from companions.personagpt.tokens import ACT, ADDED, EOS_TEXT, P1, P2, SEP, START
from dataset.encoding import EncodedExample
from utils.errors import UserError, shown

_SPECIAL = re.compile(r"<\|[^|<>]*\|>")
_OPENING = "<|"
_KNOWN = (EOS_TEXT, *ADDED)
_LAYOUTS = (
    f"{ACT}goal{SEP}{P1}{SEP}, {ACT}goal{P1}{SEP}, or {P1} or {P2} with a fact before each {EOS_TEXT} and {SEP}; after "
    f"that nothing, or {START} and turns"
)


@dataclass(frozen=True, slots=True)
class ActionExample:
    """A reply, and what it answers: a goal, or the facts of a persona."""

    turns: tuple[str, ...]
    """what was said before, oldest first"""
    response: str
    goal: str | None = None
    """the phrase of an action prompt; None for a persona prompt"""
    variant: ActionVariant = "B"
    """layout of the action prompt"""
    facts: tuple[str, ...] = ()
    """of a persona prompt"""
    speaker: int = 1
    """who answers, 1 or 2; with a goal it is 1"""
    where: str = ""
    """file and line, for error messages"""

    @property
    def texts(self) -> TextPair:
        """As it is written to a file.

        Raises:
            UserError: a text of it holds a special token, and would be read as such.
        """
        for text in (*self.turns, self.response, *self.facts, *([self.goal] if self.goal else [])):
            if _OPENING in text:
                raise UserError(f"'{_OPENING}' stands in {shown(text)}, which cannot be kept as an example")
        if self.goal is None:
            prefix = (P1, P2)[self.speaker - 1] + "".join(fact + EOS_TEXT for fact in self.facts) + SEP
        else:
            prefix = f"{ACT}{self.goal}{SEP if self.variant == 'B' else ''}{P1}{SEP}"
        history = START + "".join(turn + EOS_TEXT for turn in self.turns) if self.turns else ""
        response = f"{'' if self.turns else START}{self.response}{EOS_TEXT}"
        return TextPair(prefix + history, response, self.goal, self.where)


def read_action_examples(path: str | Path, config: PersonaConfig) -> list[ActionExample]:
    """The examples of a file of action codes, in its order.

    Args:
        path: .csv or .jsonl.
        config: gives the goals, the layout of the action prompt, and the fidelity.

    Raises:
        UserError: what is wrong with the file, by line and column.
    """
    examples = [_example(pair) for pair in text_pairs(path)]
    if config.model.released:
        return examples
    goals = goals_in(config.dataset.goals)
    known: list[ActionExample] = []
    for example in examples:
        if example.goal is None:
            known.append(example)
            continue
        try:
            goal = goal_by_phrase(example.goal, goals)
        except UserError as error:
            raise UserError(f"{example.where}: context: {error}") from None
        known.append(replace(example, goal=goal, variant=config.model.action_prompt))
    return known


def encode_actions(examples: Sequence[ActionExample], encoder: PersonaEncoder) -> list[EncodedExample]:
    """Encode examples in their order, each as a text of its own.

    Args:
        examples: of action codes.
        encoder: gives ids, the longest text, and whether the first token of an answer is trained.

    Raises:
        UserError: prefix, newest turn and response do not fit, by file and line.
    """
    return [_encoded(index, example, encoder) for index, example in enumerate(examples)]


def _encoded(index: int, example: ActionExample, encoder: PersonaEncoder) -> EncodedExample:
    ids, text = encoder.ids, encoder.text
    if example.goal is None:
        prefix = persona_prefix(text.encode(example.facts), example.speaker, ids)
    else:
        prefix = action_prefix(text(example.goal), example.variant, ids)
    turns = [[*text(turn), ids.eos] for turn in example.turns]
    answer = [*([] if turns else [ids.start]), *text(example.response), ids.eos]
    persona = example.goal or " ".join(example.facts)
    return encoder.joined(prefix, turns, answer, example.where, persona, index, index)


class _Piece(NamedTuple):
    """What stands before a special token; `token` is empty where a text ends without one."""

    text: str
    token: str


def _example(pair: TextPair) -> ActionExample:
    prompt = f"{pair.where}: context"
    pieces = _pieces(pair.context, prompt)
    example, rest = _prefix(pieces, prompt)
    turns = tuple(piece.text for piece in rest[1:] if piece.token == EOS_TEXT)
    if rest and not (rest[0] == _Piece("", START) and turns and len(turns) == len(rest) - 1):
        raise UserError(f"{prompt}: no prompt, which is {_LAYOUTS}, each with {EOS_TEXT} after it")
    answer = f"{pair.where}: response"
    spoken = _pieces(pair.response, answer)
    if bool(spoken[0] == _Piece("", START)) == bool(turns):
        raise UserError(
            f"{answer}: {START} opens the first turn of a dialogue: it stands in the context before turns, and else "
            "first in the response"
        )
    *before, last = spoken
    if last.token != EOS_TEXT:
        raise UserError(f"{answer}: it does not end with {EOS_TEXT}, so that a reply would have no end")
    if len(before) != (0 if turns else 1):
        raise UserError(f"{answer}: one turn is needed, with {EOS_TEXT} at its end alone")
    for key, texts in (("context", turns), ("response", [last.text])):
        if not all(text.strip() for text in texts):
            raise UserError(f"{pair.where}: {key}: a turn is empty")
    if pair.goal is not None and pair.goal != example.goal:
        raise UserError(f"{pair.where}: goal: {shown(pair.goal)} is not the one of the context")
    return replace(example, turns=turns, response=last.text, where=pair.where)


def _prefix(pieces: list[_Piece], where: str) -> tuple[ActionExample, list[_Piece]]:
    """What a context begins with, as an example without turns, and the rest of it."""
    tokens = [piece.token for piece in pieces]
    for variant, layout in (("B", [ACT, SEP, P1, SEP]), ("A", [ACT, P1, SEP])):
        size = len(layout)
        if tokens[:size] == layout:
            texts = [piece.text for piece in pieces[:size]]
            if not texts[1] or any(texts[:1] + texts[2:]):
                break
            return ActionExample((), "", texts[1], "A" if variant == "A" else "B"), pieces[size:]
    if pieces[0] in (_Piece("", P1), _Piece("", P2)) and SEP in tokens:
        end = tokens.index(SEP)
        facts = tuple(piece.text for piece in pieces[1:end])
        if facts and set(tokens[1:end]) == {EOS_TEXT} and not pieces[end].text:
            if not all(fact.strip() for fact in facts):
                raise UserError(f"{where}: a fact is empty")
            return ActionExample((), "", facts=facts, speaker=1 if tokens[0] == P1 else 2), pieces[end + 1 :]
    raise UserError(f"{where}: no prompt, which is {_LAYOUTS}, each with {EOS_TEXT} after it")


def _pieces(text: str, where: str) -> list[_Piece]:
    """A text cut after each special token; blanks beside any but eos are dropped."""
    tokens = _SPECIAL.findall(text)
    parts = _SPECIAL.split(text)
    unknown = [token for token in tokens if token not in _KNOWN]
    unknown += [part[part.index(_OPENING) :] for part in parts if _OPENING in part]
    if unknown:
        raise UserError(f"{where}: unknown special token {shown(unknown[0])}; known: {', '.join(_KNOWN)}")
    pieces = []
    before = EOS_TEXT
    for words, token in zip(parts, [*tokens, EOS_TEXT], strict=True):
        words = words if before == EOS_TEXT else words.lstrip()
        pieces.append(_Piece(words if token == EOS_TEXT else words.rstrip(), token))
        before = token
    *whole, end = pieces
    return whole if not end.text.strip() else [*whole, _Piece(end.text, "")]
