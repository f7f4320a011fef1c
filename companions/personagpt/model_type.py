"""The bundle of `model_type: personagpt`."""

from transformers import PreTrainedTokenizerBase

from companions.personagpt.model import build_personagpt
from companions.personagpt.settings import PersonaConfig
from companions.personagpt.tokens import make_tokenizer
from models.model_type import ModelType


def _tokenizer(config: PersonaConfig) -> PreTrainedTokenizerBase:
    return make_tokenizer(config.model)


MODEL_TYPE = ModelType(config=PersonaConfig, build=build_personagpt, make_tokenizer=_tokenizer)
