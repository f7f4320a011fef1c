"""Model types by name: a new one is one new module and one line here."""

from collections.abc import Callable

from transformers import PreTrainedTokenizerBase

from models.baselines.prefix_tuning import build_prefix_tuning
from models.baselines.prompt_tuning import (
    build_full_finetuning,
    build_lora,
    build_prompt_tuning,
    build_textual,
)
from models.conversation import ConversationModel
from models.lm.base_lm import build_base_lm, train_tokenizer
from models.lm.language_model import load_tokenizer
from models.spt.model import build_selective
from utils.errors import UserError, nearest
from utils.schema import Config

MODELS: dict[str, Callable[[Config, PreTrainedTokenizerBase], ConversationModel]] = {
    "selective_pt": build_selective,
    "language_model": build_base_lm,
    "prompt_tuning": build_prompt_tuning,
    "prefix_tuning": build_prefix_tuning,
    "lora": build_lora,
    "full_finetuning": build_full_finetuning,
    "textual": build_textual,
}
TOKENIZERS: dict[str, Callable[[Config], PreTrainedTokenizerBase]] = {
    "language_model": train_tokenizer,
}


def build_tokenizer(config: Config) -> PreTrainedTokenizerBase:
    """The tokenizer of a configuration: the base LM's own, unless its model type makes one.

    Raises:
        UserError: an unknown model type, or a tokenizer that cannot be loaded.
    """
    _check(config)
    make = TOKENIZERS.get(config.model.model_type)
    return make(config) if make else load_tokenizer(config.model)


def build_model(config: Config, tokenizer: PreTrainedTokenizerBase) -> ConversationModel:
    """The model of a configuration.

    Raises:
        UserError: an unknown model type, or a base LM that cannot be loaded.
    """
    _check(config)
    return MODELS[config.model.model_type](config, tokenizer)


def _check(config: Config) -> None:
    if config.model.model_type not in MODELS:
        raise UserError(
            f"model.model_type = '{config.model.model_type}'{nearest(config.model.model_type, MODELS)}"
        )
