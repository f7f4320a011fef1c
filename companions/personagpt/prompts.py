"""The one place that knows the sequences of PersonaGPT. Training, evaluation and conversation all come here.

Persona prompt: `<|pK|> fact1 EOS ... factN EOS <|sep|> <|start|> turn0 EOS turn1 EOS ...`; the answer is `turn EOS`.
Action prompt: `<|act|> goal <|sep|> <|p1|> <|sep|> <|start|> turn0 EOS ...` (variant B), without the first `<|sep|>` in
variant A, which the published weights were used with. Before turn 0 a prompt ends with `<|sep|>`, and the answer is
`<|start|> turn0 EOS`. Special tokens are ids from the start, so that no tokenizer can split them or add a space.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

from companions.personagpt.settings import PersonaConfig
from companions.personagpt.tokens import SpecialIds, TextEncoder, special_ids
from dataset.dialogue import Example
from dataset.encoding import EncodedExample
from utils.errors import UserError

ActionVariant = Literal["A", "B"]


def speaker_of(turn: int) -> int:
    """Who says turn number `turn`, counted from 0: speaker 1 opens the dialogue, and they take turns."""
    return 1 + turn % 2


def persona_prefix(facts: Sequence[Sequence[int]], speaker: int, ids: SpecialIds) -> list[int]:
    """`<|pK|> fact1 EOS ... <|sep|>`.

    Args:
        facts: ids of each fact, without eos.
        speaker: 1 or 2.
        ids: of the special tokens.
    """
    prefix = [ids.speaker(speaker)]
    for fact in facts:
        prefix += [*fact, ids.eos]
    return [*prefix, ids.sep]


def action_prefix(goal: Sequence[int], variant: ActionVariant, ids: SpecialIds) -> list[int]:
    """`<|act|> goal [<|sep|>] <|p1|> <|sep|>`, of the speaker who opens the dialogue and has no facts.

    Args:
        goal: ids of the phrase, such as "ask about pets.", without eos.
        variant: "B" has the `<|sep|>` in brackets, "A" has not.
        ids: of the special tokens.
    """
    return [ids.act, *goal, *([ids.sep] if variant == "B" else []), ids.p1, ids.sep]


def with_history(
    prefix: Sequence[int], turns: Sequence[Sequence[int]], ids: SpecialIds, budget: int | None = None
) -> list[int] | None:
    """A prefix and the turns so far: `prefix <|start|> turns`; the prefix alone before turn 0.

    The oldest whole turns are left out, one at a time, until the rest fits; nothing of the prefix is.

    Args:
        prefix: of `persona_prefix` or `action_prefix`.
        turns: ids of each turn, its eos included, oldest first.
        ids: of the special tokens.
        budget: tokens that the prompt may have; None for any number.

    Returns:
        The prompt; None where prefix and newest turn alone do not fit.
    """
    if not turns:
        return list(prefix) if budget is None or len(prefix) <= budget else None
    kept = [*prefix, ids.start]
    first, length = len(turns), len(kept)
    while first and (budget is None or length + len(turns[first - 1]) <= budget):
        first -= 1
        length += len(turns[first])
    if first == len(turns):
        return None
    for turn in turns[first:]:
        kept += turn
    return kept


class PersonaEncoder:
    """Turns examples into ids with the persona prompt of the speaker who answers.

    Args:
        tokenizer: from `tokens.make_tokenizer`.
        config: the configuration.
        max_tokens: what the LM's positions leave for the text; a tighter limit than max_token_length wins.
    """

    drops_turns = True
    """whether the oldest turns of a text that is too long are left out"""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, config: PersonaConfig, max_tokens: int | None = None
    ) -> None:
        self.ids = special_ids(tokenizer)
        self.text = TextEncoder(tokenizer)
        self.pad = self.ids.eos if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
        self.max_tokens = min(config.dataset.max_token_length, max_tokens or config.dataset.max_token_length)
        self.max_turns = config.dataset.max_context_turns
        # the release ends each turn of its prepared data twice, and does not train an answer's first token
        self.num_eos, self.untrained = (2, 1) if config.model.released else (1, 0)

    def encode(self, examples: Sequence[Example], with_response: bool) -> list[EncodedExample]:
        """Encode examples in their order; with_response=False gives the prompt alone.

        Raises:
            UserError: a persona with the newest turn does not fit, by file and line.
        """
        texts = {text: None for example in examples for text in (*example.persona, *example.context)}
        if with_response:
            texts |= {example.response: None for example in examples}
        self.text.encode(list(texts))  # all at once is faster; they are known from here on
        return [self._encoded(index, example, with_response) for index, example in enumerate(examples)]

    def key(self) -> dict[str, Any]:
        """All that the ids depend on beside tokenizer and examples, see `dataset.encoding.KeyedEncoder`."""
        others = {name: value for name, value in vars(self).items() if name not in ("ids", "text")}
        return {"ids": asdict(self.ids), **others}

    def fits(self, example: Example) -> bool:
        """Whether nothing need be left out of the prompt of an example."""
        prompt = with_history(*self._parts(example), self.ids)
        return prompt is not None and len(prompt) <= self.max_tokens

    def turn(self, text: str) -> list[int]:
        """An utterance with its end: `text EOS`."""
        return [*self.text(text), *[self.ids.eos] * self.num_eos]

    def joined(
        self,
        prefix: Sequence[int],
        turns: Sequence[Sequence[int]],
        answer: Sequence[int],
        where: str,
        persona: str,
        dialogue: int,
        index: int,
    ) -> EncodedExample:
        """One example of its parts; as many of the oldest turns are left out as it takes to fit.

        Args:
            prefix: of `persona_prefix` or `action_prefix`.
            turns: ids of each turn, its eos included, oldest first.
            answer: ids with eos, and with `<|start|>` before turn 0; empty at inference.
            where: file and line, for error messages.
            persona: of the `EncodedExample`, like the rest.
            dialogue: the same.
            index: the same.

        Raises:
            UserError: prefix, newest turn and answer do not fit, by file and line.
        """
        prompt = with_history(prefix, turns, self.ids, self.max_tokens - len(answer))
        if prompt is None:
            raise UserError(
                f"{where}: facts or action code, newest turn and answer do not fit {self.max_tokens} tokens; raise "
                "dataset.max_token_length as far as the LM has positions, or shorten the line"
            )
        ids = np.array([*prompt, *answer], dtype=np.int32)
        targets = ((len(prompt) + self.untrained, len(ids)),) if answer else ()
        return EncodedExample(ids, len(prompt), targets, persona, dialogue, index)

    def _parts(self, example: Example) -> tuple[list[int], list[list[int]]]:
        turn = len(example.context)
        prefix = persona_prefix(self.text.encode(example.persona), speaker_of(turn), self.ids)
        first = 0 if self.max_turns < 0 else max(turn - max(self.max_turns, 1), 0)
        return prefix, [self.turn(text) for text in example.context[first:]]

    def _encoded(self, index: int, example: Example, with_response: bool) -> EncodedExample:
        prefix, turns = self._parts(example)
        answer: list[int] = []
        if with_response:
            answer = [*([] if turns else [self.ids.start]), *self.turn(example.response)]
        persona = " ".join(example.persona)
        return self.joined(prefix, turns, answer, example.where, persona, example.dialogue, index)
