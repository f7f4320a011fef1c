"""Prefix tuning: trained keys and values in front of every layer's own (Li and Liang, 2021)."""

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedTokenizerBase

from models.lm.language_model import LanguageModel, load_language_model
from models.plain import PlainModel
from utils.schema import Config


class PrefixTuning(PlainModel):
    """V virtual positions per layer, given as keys and values; no reparametrisation."""

    def __init__(self, lm: LanguageModel, tokenizer: PreTrainedTokenizerBase, config: Config) -> None:
        super().__init__(lm, tokenizer, config)
        self.num_virtual_tokens = config.model.peft_config.num_virtual_tokens
        # the LM itself says what it caches: configurations have many names for the number of key heads
        cached = lm.read(lm.embed(torch.zeros(1, 1, dtype=torch.long))).layers
        _, heads, _, size = cached[0].keys.shape
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


def build_prefix_tuning(config: Config, tokenizer: PreTrainedTokenizerBase) -> PrefixTuning:
    """`model_type: prefix_tuning`."""
    return PrefixTuning(load_language_model(config.model), tokenizer, config)
