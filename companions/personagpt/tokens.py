"""The special tokens of PersonaGPT, and text to ids without them.

`<|sep|> <|cls|> <|start|> <|p1|> <|p2|> <|act|>` follow the vocabulary of GPT-2 in this order, as in the published
weights; eos is the tokenizer's own (`<|endoftext|>`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase

from dataset.plain_text import plain_text_tokenizer
from models.lm.language_model import load_tokenizer
from models.settings import LMSettings
from utils.errors import UserError

SEP, CLS, START, P1, P2, ACT = "<|sep|>", "<|cls|>", "<|start|>", "<|p1|>", "<|p2|>", "<|act|>"
ADDED = (SEP, CLS, START, P1, P2, ACT)
"""in the order of their ids; `<|cls|>` is declared and never used, as in the published weights"""
STEERING = (START, P1, P2, ACT)
"""those whose rows of the token table learn fast in the control stage"""
EOS_TEXT = "<|endoftext|>"
"""how data files write eos, whatever the tokenizer calls it"""


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Ids of the special tokens."""

    eos: int
    sep: int
    start: int
    p1: int
    p2: int
    act: int

    def speaker(self, number: int) -> int:
        """`<|p1|>` for the speaker who opens the dialogue, 1, and `<|p2|>` for the other, 2."""
        return {1: self.p1, 2: self.p2}[number]


def make_tokenizer(settings: LMSettings) -> PreTrainedTokenizerBase:
    """The base LM's tokenizer with those of the six tokens that it lacks.

    Raises:
        UserError: it cannot be loaded, is no fast one, or has no eos token.
    """
    tokenizer = load_tokenizer(settings)
    add_special_tokens(tokenizer)
    return tokenizer


def add_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """Add the six tokens to a tokenizer, after its vocabulary; those that it has stay where they are.

    Raises:
        UserError: it is no fast one, or has no eos token.
    """
    if not tokenizer.is_fast:
        raise UserError(f"{tokenizer.name_or_path}: a fast tokenizer is needed")
    if tokenizer.eos_token_id is None:
        raise UserError(f"{tokenizer.name_or_path}: the tokenizer has no eos token to end a turn with")
    # one at a time: all at once, an earlier release of the library gave them in the order of a set
    for token in ADDED:
        tokenizer.add_tokens([AddedToken(token, special=True, normalized=False)], special_tokens=True)


def special_ids(tokenizer: PreTrainedTokenizerBase) -> SpecialIds:
    """The ids of a tokenizer from `make_tokenizer`."""
    of = tokenizer.get_vocab()
    return SpecialIds(int(tokenizer.eos_token_id), of[SEP], of[START], of[P1], of[P2], of[ACT])


class TextEncoder:
    """Text to ids in which special tokens are plain text: data cannot smuggle in a turn or a persona.

    Args:
        tokenizer: from `make_tokenizer`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.backend = plain_text_tokenizer(tokenizer.backend_tokenizer)
        self.known: dict[str, list[int]] = {}

    def __call__(self, text: str) -> list[int]:
        """The ids of one text."""
        return self.encode([text])[0]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of several texts; a text that comes again is read once."""
        new = list({text: None for text in texts if text not in self.known})
        if new:
            # each time: calling the tokenizer that the backend belongs to resets them
            self.backend.encode_special_tokens = True
            self.backend.no_padding()
            self.backend.no_truncation()
            encodings = self.backend.encode_batch(new, add_special_tokens=False)
            self.known.update((text, encoding.ids) for text, encoding in zip(new, encodings, strict=True))
        return [self.known[text] for text in texts]
