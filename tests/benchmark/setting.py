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

# architecture, width, layers, heads, vocabulary of the LM's head, positions, virtual tokens (docs/method.md, section 8)
SIZES = {
    "tiny": ("opt", 64, 2, 4, 2000, 640, 8),
    "opt-125m": ("opt", 768, 12, 12, 50272, 2048, 8),
    "opt-1.3b": ("opt", 2048, 24, 32, 50272, 2048, 8),
    "opt-2.7b": ("opt", 2560, 32, 32, 50272, 2048, 8),
    "llama2-7b": ("llama", 4096, 32, 32, 32000, 2048, 1),
    "llama2-13b": ("llama", 5120, 40, 40, 32000, 2048, 1),
}
FEED_FORWARD = {"llama2-7b": 11008, "llama2-13b": 13824}


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


def make_setting(args: argparse.Namespace, precision: int | str) -> Setting:
    """Build everything for one way of computing."""
    data = {"dataset": {"train": str(args.data), "max_token_length": PADDED}}
    lm_settings = build_config([("benchmark", data), ("benchmark", _lm_section(args.size))])
    spt = {
        "model": {
            "model_name": "random weights",
            "load_bit": precision,
            "peft_config": {"num_virtual_tokens": SIZES[args.size][-1]},
        },
    }
    config = build_config([("benchmark", data), ("benchmark", spt)])
    tokenizer = train_tokenizer(lm_settings)
    lm_config = lm_config_of_size(args.size, lm_settings.model.init, tokenizer)
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


def _lm_section(size: str) -> dict[str, Any]:
    architecture, width, layers, heads, vocabulary, positions, _ = SIZES[size]
    init = {
        "architecture": architecture,
        "hidden_size": width,
        "num_layers": layers,
        "num_heads": heads,
        "vocab_size": min(8000, vocabulary),
        "max_positions": positions,
    }
    return {"model": {"model_type": "language_model", "init": init}}


def lm_config_of_size(size: str, init: InitSettings, tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
    """The LM of a size; its head is as large as the real one's, whatever the tokenizer uses."""
    lm_config = lm_config_of(init, tokenizer)
    lm_config.vocab_size = SIZES[size][4]
    if init.architecture == "llama":
        lm_config.intermediate_size, lm_config.tie_word_embeddings = FEED_FORWARD[size], False
    return lm_config
