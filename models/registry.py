"""Model types by name. A new one is one module that holds a `MODEL_TYPE`, and one line here."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from utils.errors import UserError, nearest

# a name that is wrong is told before torch and transformers are imported, which takes seconds
if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from models.conversation import ConversationModel
    from models.model_type import ModelType
    from models.settings import Config

MODEL_TYPES: dict[str, str] = {
    "selective_pt": "models.spt.model",
    "language_model": "models.lm.base_lm",
    "prompt_tuning": "models.baselines.prompt_tuning",
    "prefix_tuning": "models.baselines.prefix_tuning",
    "lora": "models.baselines.lora",
    "full_finetuning": "models.baselines.full_finetuning",
    "textual": "models.baselines.textual",
    "routed_prompts": "models.baselines.routed_prompts",
}
"""name -> module, which is imported when the type is asked for: some need libraries that take seconds to import"""


def register_model_type(name: str, module: str) -> None:
    """Add a model type; `module` holds its `MODEL_TYPE`.

    Raises:
        ValueError: the name is taken. Runs of two types under one name would be mixed up.
    """
    if name in MODEL_TYPES:
        raise ValueError(f"model type '{name}' is registered twice")
    MODEL_TYPES[name] = module


def model_type(name: str) -> ModelType:
    """The bundle of a model type.

    Raises:
        UserError: there is none of this name.
    """
    if name not in MODEL_TYPES:
        raise UserError(f"model.model_type = '{name}'{nearest(name, MODEL_TYPES)}")
    return importlib.import_module(MODEL_TYPES[name]).MODEL_TYPE


def build_tokenizer(config: Config) -> PreTrainedTokenizerBase:
    """The tokenizer of a configuration: the base LM's own, unless its model type makes one.

    Raises:
        UserError: it cannot be loaded.
    """
    from models.lm.language_model import load_tokenizer

    make = model_type(config.model.model_type).make_tokenizer
    return make(config) if make else load_tokenizer(config.model)


def build_model(config: Config, tokenizer: PreTrainedTokenizerBase) -> ConversationModel:
    """The model of a configuration.

    Raises:
        UserError: its base LM cannot be loaded.
    """
    from utils.precision import set_tf32

    set_tf32(config.model.tf32)
    return model_type(config.model.model_type).build(config, tokenizer)
