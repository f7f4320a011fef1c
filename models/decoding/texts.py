"""The texts of a decoding: what is replied to, and the targets whose loss is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from dataset.dialogue import Example
from dataset.encoded_cache import encoded_file
from dataset.encoding import EncodedExample, Encoder
from models.conversation import ConversationModel
from models.reading import example_file, make_encoder
from models.settings import Config
from utils.distributed import DistributedContext
from utils.liveness import main_first


@dataclass(frozen=True, slots=True)
class DecodingTexts:
    """The same examples twice, in their order."""

    texts: Sequence[EncodedExample]
    """without their responses"""
    targets: Sequence[EncodedExample]
    """with them; the targets are the response and eos"""


def encode_texts(model: ConversationModel, config: Config, examples: Sequence[Example]) -> DecodingTexts:
    """The texts of some examples, in memory."""
    return DecodingTexts(
        texts=text_encoder(model, config).encode(examples, with_response=False),
        targets=_target_encoder(model, config).encode(examples, with_response=True),
    )


def texts_of_file(
    model: ConversationModel,
    config: Config,
    examples: list[Example],
    sha256: str | None,
    distributed: DistributedContext,
) -> DecodingTexts:
    """The texts of the examples of `dataset.valid`, kept for all ranks and later runs where the file is large.

    All ranks must call it: the first one encodes.

    Args:
        model: on whose tokenizer the texts stand.
        config: its configuration.
        examples: of the file.
        sha256: the file's hash before they were read.
        distributed: the processes that share the work.

    Raises:
        UserError: what is wrong with an example, or with the folder of `dataset.cache_dir`; the file was changed since.
    """
    source = example_file(config.dataset.valid, config, examples=examples, sha256=sha256)
    read = partial(encoded_file, source, tokenizer=model.tokenizer, cache_dir=config.dataset.cache_dir)
    read = partial(read, is_main=distributed.is_main)
    encoder, scorer = text_encoder(model, config), _target_encoder(model, config)
    return main_first(
        distributed,
        lambda: DecodingTexts(
            texts=read(encoder=encoder, with_response=False), targets=read(encoder=scorer, with_response=True)
        ),
        in_turns=config.dataset.cache_dir is not None,
    )


def text_encoder(model: ConversationModel, config: Config) -> Encoder:
    """The encoder of texts to reply to: they leave room for the new tokens."""
    return make_encoder(model.tokenizer, config, model.text_limit(config.decoding.max_new_tokens))


def _target_encoder(model: ConversationModel, config: Config) -> Encoder:
    # nothing is generated after a target, so it has the room of the new tokens too
    return make_encoder(model.tokenizer, config, model.text_limit(0), response_only=True)
