"""What a system's texts are: which examples a file gives, how they become ids and batches, where a reply ends.

Training, decoding and the chat ask the model type of a configuration for it; the defaults are SPT's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from transformers import PreTrainedTokenizerBase

from dataset.batch import Collator
from dataset.dialogue import Example
from dataset.encoding import Encoder, ExampleEncoder
from dataset.loading import read_examples
from dataset.similarity import PairLabels
from dataset.text import STOP_CHARACTERS, cut_response
from models.release.reading import ReleasedCollator, ReleasedEncoder
from models.settings import Config


def _encoder(
    tokenizer: PreTrainedTokenizerBase, config: Config, max_tokens: int | None, response_only: bool
) -> Encoder:
    kind = ReleasedEncoder if config.model.released else ExampleEncoder
    return kind(tokenizer, config, max_tokens, response_only)


def _collator(encoder: Encoder, config: Config, decoding: bool, pair_labels: PairLabels | None) -> Collator:
    if config.model.released:
        return ReleasedCollator(
            pad_id=encoder.pad,
            pair_labels=pair_labels,
            max_tokens=encoder.max_tokens,
            hide_id=None if decoding else encoder.pad,
        )
    shared = config.training.rows == "dialogue" and not decoding
    return Collator(pad_id=encoder.pad, share_rows=shared, pair_labels=pair_labels)


class ReadExamples(Protocol):
    """The examples of a file."""

    def __call__(
        self, path: str, config: Any, ratio: float = 1.0, only_longest: bool = False
    ) -> list[Example]:
        """See `dataset.loading.read_examples`."""


@dataclass(frozen=True, slots=True)
class TextFormat:
    """The texts of a model type; the functions get the type's own configuration."""

    read_examples: ReadExamples = read_examples
    """(path, configuration, share from the start of the file, only the last turn of each dialogue) -> examples; of the
    configuration it may use `dataset`, model_type and fidelity alone, by which large files are kept encoded"""
    make_encoder: Callable[[PreTrainedTokenizerBase, Any, int | None, bool], Encoder] = _encoder
    """(tokenizer, configuration, tokens that the LM has room for or None, targets are the response alone) -> what
    makes ids of examples, see `ExampleEncoder`"""
    make_collator: Callable[[Any, Any, bool, PairLabels | None], Collator] = _collator
    """(its own encoder, configuration, for decoding: one row per example, labels of pairs or None) -> what makes
    batches of ids"""
    cut: Callable[[str], str] = cut_response
    """(generated text without special tokens) -> the reply in it"""
    stop_characters: Sequence[str] = STOP_CHARACTERS
    """a token that holds one of them ends the generation; with none, eos alone does"""
    keys: Sequence[str] = ("format", "max_context_turns", "max_token_length", "silence")
    """of `dataset`: those that decide which texts of a file are replied to; kept with the replies"""
