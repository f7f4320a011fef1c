"""Full fine-tuning: every parameter of the LM is trained."""

from transformers import PreTrainedTokenizerBase

from models.lm.language_model import load_language_model
from models.model_type import ModelType
from models.plain import PlainModel
from models.settings import PlainConfig


def build_full_finetuning(config: PlainConfig, tokenizer: PreTrainedTokenizerBase) -> PlainModel:
    """The configured base LM, all of it trainable."""
    return PlainModel(load_language_model(config.model, frozen=False), tokenizer, config)


MODEL_TYPE = ModelType(config=PlainConfig, build=build_full_finetuning)
