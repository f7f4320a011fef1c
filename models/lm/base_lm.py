"""A base LM from scratch (`model_type: language_model`), with a byte-level BPE of its own.

For samples and tests, where no pretrained LM can be had. Such a run keeps the LM in the Hugging Face format,
so that `model.model_name` of a later run can point to it.
"""

from collections.abc import Iterator

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
from models.lm.language_model import LanguageModel
from models.lm.precision import DTYPES
from models.plain import PlainModel
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
    dialogues = read_dialogues(config.dataset.train, config.dataset.format)
    for example in examples_of(dialogues, only_longest=True):
        yield prompt_text(example.persona, label_turns(example.context), example.response).body


def build_base_lm(config: Config, tokenizer: PreTrainedTokenizerBase) -> PlainModel:
    """A randomly initialised LM of the sizes in `model.init`, all of it trainable."""
    lm_config = lm_config_of(config.model.init, tokenizer)
    model = AutoModelForCausalLM.from_config(
        lm_config, dtype=DTYPES[config.model.load_bit], trust_remote_code=False
    )
    return PlainModel(LanguageModel(model, frozen=False), tokenizer, config)


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
