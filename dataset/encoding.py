"""From text to token ids with positions: which tokens are target, which are the retriever's query.

Every border comes from the character positions of dataset/text.py, never from searching decoded text.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol, runtime_checkable

import numpy as np
from transformers import PreTrainedTokenizerBase

from dataset.dialogue import Example
from dataset.plain_text import plain_text_tokenizer
from dataset.prefixes import JoinedTokens, Tokens, cuts_before_spaces, tokens_of
from dataset.settings import DataConfig
from dataset.text import CUE, PromptText, label_turns, prompt_text
from utils.errors import UserError

# of texts that are read at once: those of one dialogue of 100,000 turns are 100 GB
_LETTERS = 1 << 22


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """The token ids of one example and the borders between its parts."""

    ids: np.ndarray  # int32 [S]: bos, text, and in training eos
    query_end: int
    """ids[:query_end] is the retriever's query: bos to the end of the last turn"""
    targets: tuple[tuple[int, int], ...]
    """half-open ranges of the positions whose tokens are predicted; empty at inference"""
    persona: str
    """persona lines as one text, for the contrastive pairs"""
    dialogue: int
    index: int
    """place in the file"""
    turn: int = 0
    """which of the modelled speaker's responses in the dialogue, counted from 0"""
    last_turn: int = 0
    """ids[last_turn:query_end] is the last turn, with its mark"""


class Encoder(Protocol):
    """What training, decoding and the chat ask of whatever makes token ids of examples."""

    pad: int
    """the id that fills the rows of a batch"""
    max_tokens: int
    """longest text"""
    drops_turns: bool
    """whether the oldest turns of a text that is too long are left out; if not, its end is cut at inference"""

    def encode(self, examples: Sequence[Example], with_response: bool) -> list[EncodedExample]:
        """Encode examples in their order; with_response=False gives the inference text."""

    def fits(self, example: Example) -> bool:
        """Whether nothing need be cut from the inference text of an example; asked where no turns are dropped."""


@runtime_checkable
class KeyedEncoder(Encoder, Protocol):
    """An encoder whose ids may be kept for later runs."""

    def key(self) -> dict[str, Any]:
        """All that its ids depend on beside tokenizer and examples, as JSON values."""


class ExampleEncoder:
    """Turns examples into ids for one tokenizer and one configuration.

    Args:
        tokenizer: a fast tokenizer with an eos token.
        config: the configuration.
        max_tokens: what the LM's positions leave for the text; a tighter limit than max_token_length wins.
        response_only: the targets are the response and eos, whatever freeze_persona and freeze_context say: what
            a perplexity counts must not depend on what was trained.

    Raises:
        UserError: the tokenizer has no eos token, no offsets, or an example cannot fit.
    """

    drops_turns = True
    """whether the oldest turns of a text that is too long are left out"""
    cuts_at_cue = True
    """whether no token may stand across the borders of the cue"""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        config: DataConfig,
        max_tokens: int | None = None,
        response_only: bool = False,
    ) -> None:
        if not tokenizer.is_fast:
            raise UserError(
                f"{tokenizer.name_or_path}: a fast tokenizer is needed (it gives token positions)"
            )
        if tokenizer.eos_token_id is None:
            raise UserError(
                f"{tokenizer.name_or_path}: the tokenizer has no eos token to end a response with"
            )
        self.tokenizer = plain_text_tokenizer(tokenizer.backend_tokenizer)
        self.shares_prefixes = cuts_before_spaces(self.tokenizer)
        self.eos = int(tokenizer.eos_token_id)
        self.bos = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
        self.pad = self.eos if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
        limited = max_tokens is not None and max_tokens < config.dataset.max_token_length
        self.remedy = (
            "the LM has no more positions: shorten the line, or ask for fewer new tokens"
            if limited
            else "raise dataset.max_token_length, or shorten the line"
        )
        self.max_tokens = min(config.dataset.max_token_length, max_tokens or config.dataset.max_token_length)
        self.max_turns = config.dataset.max_context_turns
        self.freeze_persona = config.training.freeze_persona or response_only
        self.freeze_context = config.training.freeze_context or response_only

    def encode(self, examples: Sequence[Example], with_response: bool) -> list[EncodedExample]:
        """Encode examples in their order; with_response=False gives the inference text."""
        self._set_up_tokenizer()
        encoded: list[EncodedExample] = []
        texts: list[PromptText] = []
        letters = 0
        for place, example in enumerate(examples, start=1):
            texts.append(self._text(example, with_response))
            letters += len(texts[-1].persona) + len(texts[-1].context)
            if letters > _LETTERS or place == len(examples):
                tokens = tokens_of([text.body for text in texts], self.tokenizer, self.shares_prefixes)
                start = len(encoded)
                for index, (text, read) in enumerate(zip(texts, tokens, strict=True), start=start):
                    read = self._cut_at_cue(text, read)
                    encoded.append(self._finish(index, examples[index], text, read, with_response))
                texts, letters = [], 0
        return encoded

    def fits(self, example: Example) -> bool:
        """Whether nothing need be cut from the inference text of an example."""
        self._set_up_tokenizer()
        tokens = self._tokens(self._text(example, False))
        return self._length(tokens, with_response=False) <= self.max_tokens

    def key(self) -> dict[str, Any]:
        """All that the ids depend on beside tokenizer and examples: every attribute, those of subclasses included."""
        return {name: value for name, value in vars(self).items() if name != "tokenizer"}

    def _set_up_tokenizer(self) -> None:
        # each time, not once in the constructor, as calling the tokenizer that the backend belongs to resets
        # them: data cannot smuggle in special tokens ("</s>" in an utterance stays text), and what a
        # tokenizer.json was saved with neither pads nor cuts
        self.tokenizer.encode_special_tokens = True
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def _text(self, example: Example, with_response: bool, drop: int = 0) -> PromptText:
        turns = label_turns(example.context[drop - self._turns(example) :])
        return prompt_text(example.persona, turns, example.response if with_response else None)

    def _tokens(self, text: PromptText) -> Tokens:
        return self._cut_at_cue(text, tokens_of([text.body], self.tokenizer, share=False)[0])

    def _cut_at_cue(self, text: PromptText, tokens: Tokens) -> Tokens:
        """The tokens of a text, where none stands across the cue's borders; else those of its parts, read apart.

        Of a token across the end, the loss would count words of the prompt or leave out words of the response, and
        training would show the LM an end of the prompt that decoding never has; of one across the beginning the
        query would lose the last words.
        """
        if self.shares_prefixes or not self.cuts_at_cue:
            return tokens
        prompt = text.persona + text.context
        parts = [prompt + text.cue, text.response]
        is_cut = self._is_crossed(tokens, len(parts[0]))
        if is_cut:
            tokens = tokens_of(parts[:1], self.tokenizer, share=False)[0]
        first = tokens.at(len(prompt) + 1)  # the letter after the cue's space
        if first is not None and tokens.span(first)[0] < len(prompt):
            return JoinedTokens([prompt, text.cue, text.response], self.tokenizer)
        return JoinedTokens(parts, self.tokenizer) if is_cut else tokens

    def _is_crossed(self, tokens: Tokens, end: int) -> bool:
        """Whether a token stands across the end of the cue."""
        last = tokens.at(end - 1)
        if last is None:
            return False
        # the token itself is asked, too, as offsets may leave out blanks that it has
        written = str(self.tokenizer.id_to_token(tokens.ids[last]))
        return tokens.span(last)[1] > end or not written.endswith(CUE[-1])

    def _turns(self, example: Example) -> int:
        """How many turns max_context_turns leaves; the partner's last one always stays."""
        count = len(example.context)
        return count if self.max_turns < 0 else min(count, max(self.max_turns, 1))

    def _finish(
        self, index: int, example: Example, text: PromptText, tokens: Tokens, with_response: bool
    ) -> EncodedExample:
        if self.drops_turns and self._length(tokens, with_response) > self.max_tokens:
            text, tokens = self._shortened(example, text, tokens, with_response)
        return self._encoded(index, example, text, tokens, with_response)

    def _shortened(
        self, example: Example, text: PromptText, tokens: Tokens, with_response: bool
    ) -> tuple[PromptText, Tokens]:
        """The text with as many of the oldest whole turns left out as it takes; the persona stays."""
        turns = self._turns(example)
        # how many it takes is looked up in the whole text's tokens, and checked: a text that is read anew for each
        # turn takes minutes where there are a thousand
        drop = max(1, self._turns_over(example, text, tokens, with_response))
        read = self._read(example, with_response, drop) if drop < turns else (text, tokens)
        while not self._has_room(read[1], with_response):
            drop += 1
            if drop >= turns:
                raise UserError(
                    f"{example.where}: persona and last turn alone are {self._length(read[1], with_response)} "
                    f"tokens, more than the {self.max_tokens} that fit; {self.remedy}"
                )
            read = self._read(example, with_response, drop)
        while drop > 1 and self._has_room(
            (more := self._read(example, with_response, drop - 1))[1], with_response
        ):
            drop, read = drop - 1, more
        return read

    def _turns_over(self, example: Example, text: PromptText, tokens: Tokens, with_response: bool) -> int:
        """How many turns have the tokens that a text has too many; the partner's last one is none of them."""
        turns = label_turns(example.context[-self._turns(example) :])
        # where each turn but the first begins in the text
        first = len(text.persona) + len(text.context) - sum(map(len, turns)) - (len(turns) - 1)
        begins = list(accumulate((len(turn) + 1 for turn in turns[:-1]), initial=first))
        needed = _token_at(tokens, first) + self._length(tokens, with_response) - self.max_tokens
        place = bisect_left(begins, needed, key=lambda char: _token_at(tokens, char))
        return min(place, len(turns) - 1)

    def _read(self, example: Example, with_response: bool, drop: int) -> tuple[PromptText, Tokens]:
        text = self._text(example, with_response, drop)
        return text, self._tokens(text)

    def _has_room(self, tokens: Tokens, with_response: bool) -> bool:
        return self._length(tokens, with_response) <= self.max_tokens

    def _length(self, tokens: Tokens, with_response: bool) -> int:
        return len(self.bos) + len(tokens) + int(with_response)

    def _encoded(
        self, index: int, example: Example, text: PromptText, tokens: Tokens, with_response: bool
    ) -> EncodedExample:
        first = len(self.bos)
        cue_start = len(text.persona) + len(text.context)
        context_start = first + _token_at(tokens, len(text.persona))
        # of a context without turns the last one is its heading
        last = label_turns(example.context)[-1] if example.context else text.context[2:]
        last_turn = first + _token_at(tokens, cue_start - len(last))
        query_end = first + _token_at(tokens, cue_start + 1)  # the letter after the cue's space
        response_start = first + _token_at(tokens, cue_start + len(text.cue) - 1) + 1
        ids = np.array([*self.bos, *tokens.ids, *([self.eos] if with_response else [])], dtype=np.int32)
        spans: list[tuple[int, int]] = []
        if with_response:
            # position 0 has nothing before it that could predict it
            spans = [] if self.freeze_persona else [(1, context_start)]
            spans += [] if self.freeze_context else [(context_start, response_start)]
            spans += [(response_start, len(ids))]
        persona = " ".join(example.persona)
        return EncodedExample(
            ids, query_end, tuple(spans), persona, example.dialogue, index, example.turn, last_turn
        )


def _token_at(tokens: Tokens, char: int) -> int:
    """Index of the token that holds character `char` of the text."""
    token = tokens.at(char)
    if token is None:
        raise UserError(
            f"the tokenizer drops character {char} of the prompt's template; use another tokenizer"
        )
    return token
