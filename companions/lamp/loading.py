"""Loading a model of Hugging Face with its tokenizer: all of its weights, and no code that comes with them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from models.lm.language_model import cannot_load, check_weights, lm_source, local_only
from utils.errors import UserError
from utils.precision import DTYPES, Precision
from utils.pretrained_files import check_pretrained, check_sizes, weight_files


def check_is_model(what: str, name: str, flag: str) -> None:
    """Whether there is a model of this name, told by its configuration alone; see `load_pretrained`.

    Raises:
        UserError: there is none.
    """
    source = lm_source(name)
    at_hand = local_only(source)
    try:
        check_pretrained(source, at_hand)
        AutoConfig.from_pretrained(source, local_files_only=at_hand, trust_remote_code=False)
    except Exception as error:  # as below
        raise cannot_load(what, name, error, flag) from None


def load_pretrained(
    what: str,
    name: str,
    flag: str,
    precision: Precision,
    class_of: Callable[[Any], Any],
    optional: str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model on the CPU with its tokenizer.

    Args:
        what: the model in words, for messages.
        name: of the Hugging Face hub, or a folder: one in the Hugging Face form, or a run with such a folder in it.
        flag: what gives another one, for messages.
        precision: of its weights.
        class_of: gives the library's class for its configuration, or raises a UserError before weights are read.
        optional: what the names of weights begin with that its files may lack.

    Raises:
        UserError: it cannot be loaded, lacks weights or a vocabulary, or has layers that its configuration leaves out.
    """
    source = lm_source(name)
    at_hand = local_only(source)
    try:
        check_pretrained(source, at_hand)
        config = AutoConfig.from_pretrained(source, local_files_only=at_hand, trust_remote_code=False)
        auto = class_of(config)
        check_sizes(auto.from_config, config, weight_files(source, at_hand))
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=at_hand, trust_remote_code=False)
        with _without_report():
            loaded = auto.from_pretrained(
                source,
                config=config,
                dtype=DTYPES[precision],
                local_files_only=at_hand,
                trust_remote_code=False,
                output_loading_info=True,
            )
        # a pair because of output_loading_info, which the library's annotation leaves out
        model, loading = cast(tuple[PreTrainedModel, dict[str, set[str]]], loaded)
    except UserError:
        raise
    except Exception as error:  # the libraries below raise many kinds; each becomes one line
        raise cannot_load(what, name, error, flag) from None
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        # the library makes a tokenizer of special tokens where there are no files of one
        raise cannot_load(f"tokenizer of the {what}", name, ValueError("it has no vocabulary"), flag)
    check_weights(what, name, loading, flag, optional)
    return model, tokenizer


@contextmanager
def _without_report() -> Iterator[None]:
    """The library's table of weights that are missing is of no use to a user: what matters of it becomes an error."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
