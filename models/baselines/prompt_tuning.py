"""Prompt tuning: one soft prompt for everything, trained by L_LLM (Lester et al., 2021)."""

from collections.abc import Mapping

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from dataset.batch import Query
from models.lm.language_model import LanguageModel, load_language_model
from models.model_type import ModelType, StoredSize
from models.plain import PlainModel
from models.settings import Config, PretrainedSettings
from models.spt.settings import PromptSizes, PromptStartSettings
from models.spt.soft_prompts import SoftPrompts, start_prompts, stored_tokens


class PromptTuningSettings(PromptStartSettings, PretrainedSettings):
    """Which LM, which soft prompt; keys of `model`."""

    peft_config: PromptSizes = PromptSizes()
    """sizes of the soft prompt"""


class PromptTuningConfig(Config):
    """The configuration of prompt tuning."""

    model: PromptTuningSettings = PromptTuningSettings()
    """the model"""


class PromptTuning(PlainModel):
    """One soft prompt before every text."""

    def __init__(
        self, lm: LanguageModel, tokenizer: PreTrainedTokenizerBase, config: PromptTuningConfig
    ) -> None:
        super().__init__(lm, tokenizer, config)
        self.num_prompts, self.num_virtual_tokens = 1, config.model.peft_config.num_virtual_tokens
        self.soft_prompts = SoftPrompts(1, self.num_virtual_tokens, lm.width)
        start_prompts(self.soft_prompts, lm, tokenizer, config.model)

    def prompts_for(self, choice: Tensor | None, num_rows: int, query: Query | None = None) -> Tensor:
        """The one soft prompt [B, V, D]."""
        return self.soft_prompts.weight.expand(num_rows, -1, -1)


def build_prompt_tuning(config: PromptTuningConfig, tokenizer: PreTrainedTokenizerBase) -> PromptTuning:
    """One soft prompt on the configured base LM."""
    return PromptTuning(load_language_model(config.model), tokenizer, config)


def _stored_sizes(config: PromptTuningConfig, state: Mapping[str, Tensor]) -> list[StoredSize]:
    return [stored_tokens(config.model.peft_config, state.get("soft_prompts.weight"), axis=1)]


MODEL_TYPE = ModelType(config=PromptTuningConfig, build=build_prompt_tuning, stored_sizes=_stored_sizes)
