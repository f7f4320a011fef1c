"""What is measured: an LM of a known size with random weights, real dialogues, and the batches of each way."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerBase

from dataset.encoding import EncodedExample, ExampleEncoder
from dataset.loading import read_examples
from dataset.sampler import BatchSampler
from models.configuration import build_config
from models.lm.base_lm import InitSettings, lm_config_of, train_tokenizer
from models.lm.language_model import LanguageModel
from models.reading import make_collator, make_encoder
from models.settings import Config
from models.spt.model import SelectivePromptTuning
from utils.precision import DTYPES

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLE = ROOT / "data_file" / "sample" / "train_self_original_no_cands.txt"
PADDED = 512  # positions that the baseline pads every text to


@dataclass(frozen=True)
class Size:
    """Sizes of an LM and of its soft prompts (docs/method.md, section 8)."""

    architecture: str
    width: int
    layers: int
    heads: int
    vocabulary: int
    """of the head"""
    virtual_tokens: int
    feed_forward: int | None = None
    """width between the two halves of a layer; None: four times the width"""
    positions: int = 2048


SIZES = {
    "tiny": Size("opt", 64, 2, 4, 2000, 8, positions=640),
    "opt-125m": Size("opt", 768, 12, 12, 50272, 8),
    "opt-1.3b": Size("opt", 2048, 24, 32, 50272, 8),
    "opt-2.7b": Size("opt", 2560, 32, 32, 50272, 8),
    "llama2-7b": Size("llama", 4096, 32, 32, 32000, 1, 11008),
    "llama2-13b": Size("llama", 5120, 40, 40, 32000, 1, 13824),
}


@dataclass
class Setting:
    """A model with its data, ready to be timed."""

    config: Config
    model: SelectivePromptTuning
    tokenizer: PreTrainedTokenizerBase
    encoder: ExampleEncoder
    train: list[EncodedExample]
    inference: list[EncodedExample]
    device: torch.device

    def batches(self, rows: str, batch_size: int, limit: int) -> list:
        """Training batches of at most `limit` examples in all, for `rows: example | dialogue`."""
        config = self.config.replaced({"training": {"rows": rows}})
        collator = make_collator(self.encoder, config)
        sampler = BatchSampler(
            [len(example.ids) for example in self.train],
            [example.dialogue for example in self.train],
            batch_size,
            seed=1,
            whole_dialogues=rows == "dialogue",
        )
        chosen, count = [], 0
        for numbers in sampler:
            if chosen and count + len(numbers) > limit:
                break
            chosen.append(collator.train([self.train[number] for number in numbers]).to(self.device))
            count += len(numbers)
        return chosen


def make_setting(args: argparse.Namespace, precision: int | str, size: Size | None = None) -> Setting:
    """Build everything for one way of computing; `size` stands for the one that `args` names."""
    size = size or SIZES[args.size]
    data = {"dataset": {"train": str(args.data), "max_token_length": PADDED}}
    lm_settings = build_config([("benchmark", data), ("benchmark", lm_section(size))])
    spt = {
        "model": {
            "model_name": "random weights",
            "load_bit": precision,
            "peft_config": {"num_virtual_tokens": size.virtual_tokens},
        },
    }
    config = build_config([("benchmark", data), ("benchmark", spt)])
    tokenizer = train_tokenizer(lm_settings)
    lm_config = lm_config_of_size(size, lm_settings.model.init, tokenizer)
    device = torch.device(args.device)
    torch.manual_seed(0)
    with device:
        lm = AutoModelForCausalLM.from_config(lm_config, dtype=DTYPES[precision])
        model = SelectivePromptTuning(LanguageModel(lm), tokenizer, config)
    model.to(device, DTYPES[precision])
    encoder = make_encoder(tokenizer, config)
    examples = read_examples(str(args.data), config, args.share)
    return Setting(
        config,
        model,
        tokenizer,
        encoder,
        encoder.encode(examples, with_response=True),
        encoder.encode(examples, with_response=False),
        device,
    )


def lm_section(size: Size) -> dict[str, Any]:
    """The configuration that makes an LM of a size."""
    init = {
        "architecture": size.architecture,
        "hidden_size": size.width,
        "num_layers": size.layers,
        "num_heads": size.heads,
        "vocab_size": min(8000, size.vocabulary),
        "max_positions": size.positions,
    }
    return {"model": {"model_type": "language_model", "init": init}}


def lm_config_of_size(size: Size, init: InitSettings, tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
    """The LM of a size; its head is as large as the real one's, whatever the tokenizer uses."""
    lm_config = lm_config_of(init, tokenizer)
    lm_config.vocab_size = size.vocabulary
    if size.architecture == "opt" and size.feed_forward:
        lm_config.ffn_dim = size.feed_forward
    if size.architecture == "llama":
        lm_config.intermediate_size = size.feed_forward or 4 * size.width
        lm_config.tie_word_embeddings = False
    return lm_config
