"""What the scorer reads of a question under one strategy, as token ids.

Pre: the prompt. Post: prompt, separator token and the LM's output, in one text. All is lower-cased. In Post an input
that is too long loses the end of its prompt; an output never takes more than half of the room unless the prompt leaves
it. In the release outputs keep their case, and the end of the whole text is cut, which is the output.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from companions.lamp.encoder import Encoder
from utils.errors import UserError


@dataclass(frozen=True)
class InputFormat:
    """How the scorer's inputs are made."""

    kind: Literal["Pre", "Post"]
    max_length: int
    """of an input in tokens, with special ones; the encoder may allow fewer"""
    released: bool = False


class InputMaker:
    """Makes the inputs of one encoder.

    Args:
        encoder: gives the tokenizer and its limit.
        form: how they are made.

    Raises:
        UserError: the tokenizer has no separator for Post, or `max_length` leaves no room.
    """

    def __init__(self, encoder: Encoder, form: InputFormat) -> None:
        self.tokenizer, self.form = encoder.tokenizer, form
        self.separator = self.tokenizer.sep_token or self.tokenizer.eos_token or ""
        if form.kind == "Post" and not self.separator:
            raise UserError(
                f"{encoder.model.config.name_or_path}: its tokenizer has no separator between prompt and output; use "
                "--rspg_type Pre"
            )
        self.before, self.after = self._special_tokens()
        limit = min(form.max_length, encoder.max_length)
        self.room = limit - len(self.before) - len(self.after)
        if self.room < 2:
            raise UserError(f"--max_length_input {form.max_length}: it leaves no room for a text")

    def ids(self, prompts: Sequence[str], outputs: Sequence[str]) -> list[list[int]]:
        """Token ids, with special tokens, of each prompt with its output."""
        heads = [prompt.lower() for prompt in prompts]
        if self.form.kind == "Pre":
            return [self._whole(head[: self.room]) for head in self._tokens(heads)]
        ends = outputs if self.form.released else [output.lower() for output in outputs]
        # nothing is merged across the separator, so that the two halves may be tokenized apart
        first = self._tokens([f"{head} " for head in heads])
        second = self._tokens([f"{self.separator} {end}" for end in ends])
        return [self._whole(self._cut(head, tail)) for head, tail in zip(first, second, strict=True)]

    def _cut(self, head: list[int], tail: list[int]) -> list[int]:
        if not self.form.released:
            tail = tail[: max(self.room // 2, self.room - len(head))]
            head = head[: self.room - len(tail)]
        return (head + tail)[: self.room]

    def _whole(self, tokens: list[int]) -> list[int]:
        return self.before + tokens + self.after

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Without special tokens; each text is tokenized once."""
        different = list(dict.fromkeys(texts))
        # verbose: it warns of texts longer than the encoder's limit, which are cut here
        found = (
            self.tokenizer(different, add_special_tokens=False, verbose=False)["input_ids"] if texts else []
        )
        ids = dict(zip(different, found, strict=True))
        return [ids[text] for text in texts]

    def _special_tokens(self) -> tuple[list[int], list[int]]:
        """The ids that the tokenizer puts before and after a text."""
        plain = self.tokenizer("a", add_special_tokens=False)["input_ids"]
        whole = self.tokenizer("a")["input_ids"]
        start = next(place for place in range(len(whole)) if whole[place : place + len(plain)] == plain)
        return whole[:start], whole[start + len(plain) :]
