"""How the texts of a configuration are encoded and made into batches: as the paper says, or as the release does."""

from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from dataset.batch import Collator
from dataset.encoding import EncodedExample, ExampleEncoder
from dataset.loading import Ranks, load_batches
from models.registry import model_type
from models.release.reading import ReleasedCollator, ReleasedEncoder
from models.settings import Config


def make_encoder(
    tokenizer: PreTrainedTokenizerBase,
    config: Config,
    max_tokens: int | None = None,
    response_only: bool = False,
) -> ExampleEncoder:
    """The encoder that a configuration asks for; see `ExampleEncoder`."""
    kind = ReleasedEncoder if config.model.released else ExampleEncoder
    return kind(tokenizer, config, max_tokens, response_only)


def make_collator(
    encoder: ExampleEncoder, config: Config, decoding: bool = False, label_pairs: bool = True
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
    if config.model.released:
        return ReleasedCollator(
            pad_id=encoder.pad,
            pair_labels=labels,
            max_tokens=encoder.max_tokens,
            hide_id=None if decoding else encoder.pad,
        )
    shared = config.training.rows == "dialogue" and not decoding
    return Collator(pad_id=encoder.pad, share_rows=shared, pair_labels=labels)


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
    encoder = make_encoder(tokenizer, config, max_tokens)
    collator = make_collator(encoder, config, label_pairs=train)
    return load_batches(path, config, encoder, collator.train, train, ranks)
