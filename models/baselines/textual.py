"""The prompt text alone: nothing is trained."""

from transformers import PreTrainedTokenizerBase

from models.lm.language_model import load_language_model
from models.model_type import ModelType
from models.plain import PlainModel
from models.settings import PlainConfig


def build_textual(config: PlainConfig, tokenizer: PreTrainedTokenizerBase) -> PlainModel:
    """The configured base LM as it is."""
    return PlainModel(load_language_model(config.model), tokenizer, config)


MODEL_TYPE = ModelType(config=PlainConfig, build=build_textual)
