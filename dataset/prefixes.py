"""Tokens of texts of which one begins with the other: the longer one's tokens are read for both.

The texts of a dialogue's examples grow turn by turn. Where the tokenizer cuts every text before a space that follows
a word, whatever comes after it, the tokens of the shorter text are the first ones of the longer text.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Encoding, Tokenizer

from utils.errors import UserError

# of Llama 3; GPT-2 and OPT have the one that ByteLevel has built in. In both, a match that holds a space and does not
# begin with one has none before its white space, and looks ahead only from white space.
_LLAMA_3 = (
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
    "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)


@dataclass(slots=True)
class Tokens:
    """The tokens of a text, which may be the first ones of a longer text."""

    encoding: Encoding
    """of the longer text"""
    ids: list[int]

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, char: int) -> int | None:
        """Number of the token that holds a character; None where the tokenizer drops it."""
        return self.encoding.char_to_token(char)

    def span(self, token: int) -> tuple[int, int]:
        """The characters that a token of the text holds, as a half-open range."""
        return self.encoding.token_to_chars(token) or (0, 0)


class JoinedTokens(Tokens):
    """The tokens of a text in parts that were read apart, so that no token stands across their borders."""

    __slots__ = ("lengths", "parts")

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer) -> None:
        parts = tokenizer.encode_batch(list(texts), add_special_tokens=False)
        super().__init__(parts[0], [token for part in parts for token in part.ids])
        self.parts, self.lengths = parts, [len(text) for text in texts]

    def at(self, char: int) -> int | None:
        """Number of the token that holds a character; None where the tokenizer drops it."""
        before = 0
        for part, length in zip(self.parts, self.lengths, strict=True):
            if char < length:
                token = part.char_to_token(char)
                return None if token is None else before + token
            char, before = char - length, before + len(part.ids)
        return None


def cuts_before_spaces(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer is known to cut a text before a space that follows a word, and to read the parts alone."""
    parts = json.loads(tokenizer.to_str())
    splits = parts["pre_tokenizer"]
    known = splits is not None and (
        (splits["type"] == "ByteLevel" and splits["use_regex"])
        or (
            splits["type"] == "Sequence"
            and [part["type"] for part in splits["pretokenizers"]] == ["Split", "ByteLevel"]
            and splits["pretokenizers"][0]["pattern"] == {"Regex": _LLAMA_3}
            and splits["pretokenizers"][0]["behavior"] == "Isolated"
            and not splits["pretokenizers"][0]["invert"]
            and not splits["pretokenizers"][1]["use_regex"]
        )
    )
    return (
        known
        and parts["normalizer"] is None
        and parts["model"]["type"] == "BPE"
        and not parts["model"].get("dropout")
        # others are looked for in the text before it is cut
        and all(token["special"] for token in parts["added_tokens"])
    )


def tokens_of(texts: Sequence[str], tokenizer: Tokenizer, share: bool) -> list[Tokens]:
    """The tokens of each text, without special tokens.

    Args:
        texts: those that begin with one another stand side by side, shorter ones first.
        tokenizer: which does not pad, cut, or look for special tokens.
        share: `cuts_before_spaces` of it.
    """
    longest = list(range(len(texts)))  # which text each one's tokens are read from
    if share:
        for number in range(len(texts) - 2, -1, -1):
            if _is_beginning(texts[number], texts[number + 1]):
                longest[number] = longest[number + 1]
    read = sorted(set(longest))
    encodings = tokenizer.encode_batch([texts[number] for number in read], add_special_tokens=False)
    by_number = {number: (encoding, encoding.ids) for number, encoding in zip(read, encodings, strict=True)}
    return [
        Tokens(encoding, ids if number == source else ids[: _tokens_before(encoding, len(texts[number]))])
        for number, source in enumerate(longest)
        for encoding, ids in [by_number[source]]
    ]


def _tokens_before(encoding: Encoding, space: int) -> int:
    """How many tokens stand before a space with a letter after it, which are the start of a part of the text."""
    # by the letter, as the offsets of the part's first token may leave the space out, and be empty
    part = encoding.char_to_word(space + 1)
    tokens = None if part is None else encoding.word_to_tokens(part)
    if tokens is None:
        raise UserError("the tokenizer drops letters of the prompt's template; use another tokenizer")
    return tokens[0]


def _is_beginning(text: str, longer: str) -> bool:
    """Whether a text ends in a longer one where every tokenizer of `cuts_before_spaces` cuts."""
    after = longer[len(text) : len(text) + 2]
    return (
        len(after) == 2
        and after[0] == " "
        and after[1].isascii()
        and after[1].isalpha()
        and not text[-1:].isspace()
        and longer.startswith(text)
    )
