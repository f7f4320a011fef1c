"""Prefix tuning: trained keys and values before every layer's own (Li and Liang, 2021)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedTokenizerBase

from models.lm.language_model import LanguageModel, keys_and_values, load_language_model
from models.model_type import ModelType, StoredSize
from models.plain import PlainModel
from models.settings import Config, PretrainedSettings
from models.spt.settings import PromptSizes
from models.spt.soft_prompts import stored_tokens
from utils.partitioning import whole_when_used


class PrefixTuningSettings(PretrainedSettings):
    """Which LM, how long a prefix; keys of `model`."""

    peft_config: PromptSizes = PromptSizes()
    """sizes of the prefix"""

    def rules(self) -> list[tuple[bool, str]]:
        """No gradient checkpointing: recomputed layers have no cache, which the prefix is put into."""
        return [
            (
                self.gradient_checkpointing,
                "model.gradient_checkpointing has no cache, which is where prefix_tuning puts its prefix",
            )
        ]


class PrefixTuningConfig(Config):
    """The configuration of prefix tuning."""

    model: PrefixTuningSettings = PrefixTuningSettings()
    """the model"""


class PrefixTuning(PlainModel):
    """V virtual positions per layer, given as keys and values; no reparametrisation."""

    def __init__(
        self, lm: LanguageModel, tokenizer: PreTrainedTokenizerBase, config: PrefixTuningConfig
    ) -> None:
        super().__init__(lm, tokenizer, config)
        self.num_virtual_tokens = config.model.peft_config.num_virtual_tokens
        # the LM itself says what it caches: configurations have many names for the number of key heads
        first = torch.zeros(1, 1, dtype=torch.long, device=lm.embedding_weight.device)
        with whole_when_used(lm):
            cached = keys_and_values(lm.read(lm.embed(first))[1])
        _, heads, _, size = cached[0][0].shape
        shape = (len(cached), 2, heads, self.num_virtual_tokens, size)
        self.prefix = nn.Parameter(0.02 * torch.randn(shape))  # [layers, 2, heads, V, head size]

    def prefix_cache(self, num_rows: int) -> DynamicCache:
        """The prefix as a cache for `num_rows` rows."""
        cache = DynamicCache()
        prefix = self.prefix.to(self.lm.head_weight.dtype)
        for layer, (keys, values) in enumerate(prefix):
            cache.update(
                keys.expand(num_rows, *keys.shape).contiguous(),
                values.expand(num_rows, *values.shape).contiguous(),
                layer,
            )
        return cache


def build_prefix_tuning(config: PrefixTuningConfig, tokenizer: PreTrainedTokenizerBase) -> PrefixTuning:
    """A prefix on the configured base LM."""
    return PrefixTuning(load_language_model(config.model), tokenizer, config)


def _stored_sizes(config: PrefixTuningConfig, state: Mapping[str, Tensor]) -> list[StoredSize]:
    return [stored_tokens(config.model.peft_config, state.get("prefix"), axis=3)]


MODEL_TYPE = ModelType(config=PrefixTuningConfig, build=build_prefix_tuning, stored_sizes=_stored_sizes)
