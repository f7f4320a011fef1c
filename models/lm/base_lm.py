"""A base LM from scratch (`model_type: language_model`), with a byte-level BPE of its own.

For samples and tests, where no pretrained LM can be had. Such a run keeps the LM in the Hugging Face format,
so that `model.model_name` of a later run can point to it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as tokenizer_models
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    OPTConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from dataset.readers import read_dialogues
from dataset.text import label_turns, prompt_text
from models.lm.language_model import LanguageModel, base_lm_folder
from models.lm.precision import DTYPES
from models.plain import PlainModel
from utils.files import write_folder
from utils.schema import Config, InitConfig

PAD, BOS, EOS = "<pad>", "<s>", "</s>"


def train_tokenizer(config: Config) -> PreTrainedTokenizerBase:
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


def _texts(config: Config) -> Iterator[str]:
    for dialogue in read_dialogues(config.dataset.train, config.dataset.format):
        last = len(dialogue.turns) - 1
        turns = label_turns(dialogue.context(last))
        yield prompt_text(dialogue.persona, turns, dialogue.turns[last].response).body


class BaseLM(PlainModel):
    """An LM of which every parameter is trained, and which is kept as Hugging Face's library does."""

    def save_trained(self, folder: Path, state: dict[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Write the LM and its tokenizer to a folder of the run folder; there is no file for `metadata`.

        Args:
            folder: the run folder.
            state: every parameter, float32; what is written has the LM's own precision.
            metadata: not used.

        Raises:
            UserError: it cannot be written; an earlier LM is as it was.
        """
        lm = self.lm.model
        # tied weights stay one tensor: the library writes it once, under the name that it looks for
        values = {
            id(parameter): state[f"lm.model.{name}"].to(parameter.dtype)
            for name, parameter in lm.named_parameters()
        }
        content = lm.state_dict()  # buffers too
        for name, parameter in lm.named_parameters(remove_duplicate=False):
            content[name] = values[id(parameter)]

        def fill(part: Path) -> None:
            lm.save_pretrained(part, state_dict=content)
            self.tokenizer.save_pretrained(part)

        write_folder(base_lm_folder(folder), fill)


def build_base_lm(config: Config, tokenizer: PreTrainedTokenizerBase) -> BaseLM:
    """A randomly initialised LM of the sizes in `model.init`, all of it trainable."""
    lm_config = lm_config_of(config.model.init, tokenizer)
    model = AutoModelForCausalLM.from_config(
        lm_config, dtype=DTYPES[config.model.load_bit], trust_remote_code=False
    )
    return BaseLM(LanguageModel(model, frozen=False), tokenizer, config)


def lm_config_of(init: InitConfig, tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
    """The Hugging Face configuration of `model.init` for a tokenizer."""
    tokens = {
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
    sizes = {
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
