"""The bundle of `model_type: personagpt`."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from companions.personagpt.model import build_personagpt
from companions.personagpt.prepared import read_persona_examples
from companions.personagpt.prompts import PersonaEncoder
from companions.personagpt.settings import PersonaConfig
from companions.personagpt.tokens import make_tokenizer
from dataset.batch import Collator
from dataset.similarity import PairLabels
from models.lm.language_model import base_lm_folder
from models.model_type import ModelType
from models.text_format import TextFormat


def _tokenizer(config: PersonaConfig) -> PreTrainedTokenizerBase:
    return make_tokenizer(config.model)


def _encoder(
    tokenizer: PreTrainedTokenizerBase, config: PersonaConfig, max_tokens: int | None, response_only: bool
) -> PersonaEncoder:
    encoder = PersonaEncoder(tokenizer, config, max_tokens)
    if response_only:  # a perplexity counts whole answers, whatever was trained
        encoder.untrained = 0
    return encoder


def _collator(
    encoder: PersonaEncoder, config: PersonaConfig, decoding: bool, pair_labels: PairLabels | None
) -> Collator:
    return Collator(pad_id=encoder.pad, share_rows=config.training.rows == "dialogue" and not decoding)


def _decoded_as(config: PersonaConfig, run: Path) -> PersonaConfig:
    """Such a run keeps its whole LM."""
    return config.replaced({"model": {"model_name": str(base_lm_folder(run))}})


TEXTS = TextFormat(
    read_examples=read_persona_examples,
    make_encoder=_encoder,
    make_collator=_collator,
    cut=str.strip,
    stop_characters=(),
    keys=(*TextFormat().keys, "speakers", "max_utterances", "drop_duplicates"),
)
"""a reply ends at eos, wherever its characters are"""

MODEL_TYPE = ModelType(
    config=PersonaConfig,
    build=build_personagpt,
    make_tokenizer=_tokenizer,
    texts=TEXTS,
    decoded_as=_decoded_as,
)
