"""The bundle of `model_type: personagpt`."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from companions.personagpt.model import build_personagpt
from companions.personagpt.prepared import read_persona_examples
from companions.personagpt.prompts import PersonaEncoder
from companions.personagpt.settings import PersonaConfig
from companions.personagpt.tokens import make_tokenizer
from dataset.batch import Collator
from dataset.encoding import Encoder
from dataset.similarity import PairLabels
from models.lm.language_model import base_lm_folder
from models.model_type import ModelType
from models.text_format import TextFormat


def _tokenizer(config: PersonaConfig) -> PreTrainedTokenizerBase:
    return make_tokenizer(config.model)


def _encoder(
    tokenizer: PreTrainedTokenizerBase, config: PersonaConfig, max_tokens: int | None, response_only: bool
) -> PersonaEncoder:
    """Targets are the response alone anyway."""
    return PersonaEncoder(tokenizer, config, max_tokens)


def _collator(
    encoder: Encoder, config: PersonaConfig, decoding: bool, pair_labels: PairLabels | None
) -> Collator:
    shared = config.training.rows == "dialogue" and not decoding
    return Collator(pad_id=encoder.pad, share_rows=shared)


def _decoded_as(config: PersonaConfig, run: Path) -> PersonaConfig:
    """Such a run is its LM."""
    return config.replaced({"model": {"model_name": str(base_lm_folder(run))}})


MODEL_TYPE = ModelType(
    config=PersonaConfig,
    build=build_personagpt,
    make_tokenizer=_tokenizer,
    texts=TextFormat(
        read_examples=read_persona_examples,
        make_encoder=_encoder,
        make_collator=_collator,
        cut=str.strip,
        stop_characters=(),
    ),
    decoded_as=_decoded_as,
)
