"""How the texts of a configuration are read, encoded and made into batches: as its model type says."""

from functools import partial

from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from dataset.batch import Collator
from dataset.dialogue import Example
from dataset.encoded_cache import ExampleFile, encoded_file
from dataset.encoding import EncodedExample, Encoder
from dataset.loading import Ranks, make_batches
from dataset.readers import reader_of
from models.registry import model_type
from models.settings import Config
from models.text_format import TextFormat


def texts_of(config: Config) -> TextFormat:
    """The texts of a configuration's model type."""
    return model_type(config.model.model_type).texts


def make_encoder(
    tokenizer: PreTrainedTokenizerBase,
    config: Config,
    max_tokens: int | None = None,
    response_only: bool = False,
) -> Encoder:
    """The encoder that a configuration asks for; see `ExampleEncoder`."""
    return texts_of(config).make_encoder(tokenizer, config, max_tokens, response_only)


def make_collator(
    encoder: Encoder, config: Config, decoding: bool = False, label_pairs: bool = True
) -> Collator:
    """The collator that a configuration asks for.

    Args:
        encoder: gives padding and limits.
        config: the configuration.
        decoding: one row per example, as each has a prompt of its own, no pairs, and eos always counts.
        label_pairs: False for the validation loss, whose pairs are those of the whole file.
    """
    labels = None
    if label_pairs and not decoding:
        labels = model_type(config.model.model_type).pair_labels(config)
    return texts_of(config).make_collator(encoder, config, decoding, labels)


def example_file(
    path: str,
    config: Config,
    ratio: float = 1.0,
    only_longest: bool = False,
    examples: list[Example] | None = None,
    sha256: str | None = None,
) -> ExampleFile:
    """A dialogue file as a configuration reads it.

    Args:
        path: the file, and so on as in `dataset.loading.read_examples`.
        config: the configuration.
        ratio: the same.
        only_longest: the same.
        examples: all that it gives, where they have been read.
        sha256: the file's hash before they were.
    """
    read = texts_of(config).read_examples
    settings = {
        "dataset": config.dataset.model_dump(mode="json", exclude={"train", "valid", "cache_dir"}),
        "model_type": config.model.model_type,
        "fidelity": config.model.fidelity,
        "ratio": ratio,
        "only_longest": only_longest,
    }
    code = [read, reader_of(config.dataset.format)]
    if examples is not None:
        return ExampleFile(path, lambda: examples, settings, code, sha256)
    return ExampleFile(path, partial(read, path, config, ratio, only_longest), settings, code)


def make_loader(
    path: str,
    tokenizer: PreTrainedTokenizerBase,
    config: Config,
    train: bool,
    ranks: Ranks | None = None,
    max_tokens: int | None = None,
) -> DataLoader[EncodedExample]:
    """Batches of a dialogue file with responses, for training or for the validation loss: a `Batch` each.

    Args:
        path: the file.
        tokenizer: the base LM's.
        config: the configuration.
        train: shuffle, apply training_ratio, and label the pairs of each batch.
        ranks: this process among all; the default is one process.
        max_tokens: what the LM's positions leave for the text; a tighter limit than max_token_length wins.

    Raises:
        UserError: what is wrong with the file or an example, by line.
    """
    training = config.training
    ratio = training.training_ratio if train else 1.0
    source = example_file(path, config, ratio, training.only_longest)
    encoder = make_encoder(tokenizer, config, max_tokens)
    is_main = ranks is None or ranks.rank == 0
    encoded = encoded_file(source, encoder, tokenizer, True, config.dataset.cache_dir, is_main)
    collator = make_collator(encoder, config, label_pairs=train)
    return make_batches(encoded, collator.train, training, train, ranks, source=path, read=source.read)
