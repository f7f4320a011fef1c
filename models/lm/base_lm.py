"""A base LM from scratch (`model_type: language_model`), with a byte-level BPE of its own.

For samples and tests, where no pretrained LM can be had. Such a run keeps the LM in the Hugging Face format,
so that `model.model_name` of a later run can point to it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as tokenizer_models
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    OPTConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from dataset.dialogue import examples_of
from dataset.readers import read_dialogues
from dataset.text import label_turns, prompt_text
from models.lm.language_model import LanguageModel, base_lm_folder
from models.lm.whole import WholeLM
from models.model_type import ModelType
from models.plain import PlainModel
from models.settings import Config, LMSettings, PlainConfig, PretrainedSettings
from utils.config.schema import Positive, Section
from utils.precision import DTYPES

_Layers = Annotated[int, Field(ge=1, le=200)]


class InitSettings(Section):
    """A base LM to be made from scratch."""

    architecture: Literal["opt", "llama", "gpt2"]
    """family of the base LM"""
    hidden_size: Positive
    """width of the LM; must be a multiple of num_heads"""
    num_layers: _Layers
    """decoder layers"""
    num_heads: Positive
    """attention heads"""
    vocab_size: Annotated[int, Field(ge=260)]
    """size of the byte-level BPE that is trained on dataset.train (256 bytes and the special tokens at least)"""
    max_positions: Positive
    """longest input in tokens, soft prompt included"""

    def rules(self) -> list[tuple[bool, str]]:
        """The width is a multiple of the number of heads."""
        return [
            (
                self.hidden_size % self.num_heads != 0,
                "model.init.hidden_size must be a multiple of model.init.num_heads",
            )
        ]


class BaseLMSettings(LMSettings):
    """Which LM is made; keys of `model`."""

    init: InitSettings
    """sizes of the LM"""


class BaseLMConfig(Config):
    """The configuration of a base LM."""

    model: BaseLMSettings
    """the model"""

    def rules(self) -> list[tuple[bool, str]]:
        """The checkpoint is saved: the LM is kept nowhere else."""
        return [(not self.training.save_model, "training.save_model: false would throw the new LM away")]


PAD, BOS, EOS = "<pad>", "<s>", "</s>"


def train_tokenizer(config: BaseLMConfig) -> PreTrainedTokenizerBase:
    """A byte-level BPE of `model.init.vocab_size` entries, trained on the prompt texts of dataset.train."""
    tokenizer = Tokenizer(tokenizer_models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.model.init.vocab_size,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(config), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )


def _texts(config: BaseLMConfig) -> Iterator[str]:
    dialogues = read_dialogues(config.dataset.train, config.dataset.format)
    for example in examples_of(dialogues, only_longest=True, silence=config.dataset.silence):
        yield prompt_text(example.persona, label_turns(example.context), example.response).body


class BaseLM(WholeLM, PlainModel):
    """An LM of which every parameter is trained, and which is kept as Hugging Face's library does."""

    trained_further_by = "use model_type full_finetuning with"


def build_base_lm(config: BaseLMConfig, tokenizer: PreTrainedTokenizerBase) -> BaseLM:
    """A randomly initialised LM of the sizes in `model.init`, all of it trainable."""
    lm_config = lm_config_of(config.model.init, tokenizer)
    model = AutoModelForCausalLM.from_config(
        lm_config, dtype=DTYPES[config.model.load_bit], trust_remote_code=False
    )
    return BaseLM(LanguageModel(model, frozen=False), tokenizer, config)


def lm_config_of(init: InitSettings, tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
    """The Hugging Face configuration of `model.init` for a tokenizer."""
    tokens: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if init.architecture == "gpt2":
        return GPT2Config(
            n_embd=init.hidden_size,
            n_layer=init.num_layers,
            n_head=init.num_heads,
            n_positions=init.max_positions,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **tokens,
        )
    sizes: dict[str, Any] = {
        "hidden_size": init.hidden_size,
        "num_hidden_layers": init.num_layers,
        "num_attention_heads": init.num_heads,
        "max_position_embeddings": init.max_positions,
        "tie_word_embeddings": True,
    }
    if init.architecture == "llama":
        return LlamaConfig(intermediate_size=4 * init.hidden_size, **sizes, **tokens)
    return OPTConfig(
        ffn_dim=4 * init.hidden_size,
        word_embed_proj_dim=init.hidden_size,
        dropout=0.0,
        attention_dropout=0.0,
        **sizes,
        **tokens,
    )


def _decoded_as(config: BaseLMConfig, run: Path) -> PlainConfig:
    """Such a run is its LM: it replies to the prompt text alone."""
    model = {
        "model_type": "textual",
        "model_name": str(base_lm_folder(run)),
        "load_bit": config.model.load_bit,
        "fidelity": config.model.fidelity,
    }
    sections = {key: getattr(config, key) for key in ("training", "dataset", "decoding", "chat")}
    return PlainConfig(model=PretrainedSettings.model_validate(model), **sections)


MODEL_TYPE = ModelType(
    config=BaseLMConfig, build=build_base_lm, make_tokenizer=train_tokenizer, decoded_as=_decoded_as
)
