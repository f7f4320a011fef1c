"""The baselines of the paper, through the same interface as SPT: prompt tuning, LoRA, full fine-tuning, text alone.

Prefix tuning has a file of its own (models/baselines/prefix_tuning.py).
"""

from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from models.lm.language_model import LanguageModel, load_language_model
from models.plain import PlainModel
from models.spt.soft_prompts import SoftPrompts, start_prompts
from utils.errors import UserError
from utils.schema import Config


class PromptTuning(PlainModel):
    """One soft prompt for everything, trained by L_LLM (Lester et al., 2021)."""

    def __init__(self, lm: LanguageModel, tokenizer: PreTrainedTokenizerBase, config: Config) -> None:
        super().__init__(lm, tokenizer, config)
        self.num_prompts, self.num_virtual_tokens = 1, config.model.peft_config.num_virtual_tokens
        self.soft_prompts = SoftPrompts(1, self.num_virtual_tokens, lm.width)
        start_prompts(self.soft_prompts, lm, tokenizer, config.model)

    def prompts_for(self, choice: Tensor | None, num_rows: int) -> Tensor:
        """The one soft prompt [B, V, D]."""
        return self.soft_prompts.weight.expand(num_rows, -1, -1)


# what attention layers call their query and value projections, or the one that holds them all
_PROJECTIONS = (("q_proj", "v_proj"), ("query_key_value",), ("qkv_proj",), ("Wqkv",), ("c_attn",))


class LoraModel(PlainModel):
    """LoRA on the query and value projections, as in its paper (Hu et al., 2022), or on the one that holds both."""

    def __init__(self, lm: LanguageModel, tokenizer: PreTrainedTokenizerBase, config: Config) -> None:
        sizes = config.model.peft_config
        adapter = LoraConfig(
            r=sizes.r,
            lora_alpha=sizes.lora_alpha,
            lora_dropout=sizes.lora_dropout,
            target_modules=_projections(lm),
            fan_in_fan_out=lm.model.config.model_type == "gpt2",  # its layers are stored transposed
        )
        inject_adapter_in_model(adapter, lm.model)
        super().__init__(lm, tokenizer, config)

    def train(self, mode: bool = True) -> "LoraModel":
        """The LM stays in evaluation mode, LoRA's own dropout does not."""
        super().train(mode)
        for name, module in self.lm.named_modules():
            if name.endswith("lora_dropout"):
                module.train(mode)
        return self


def _projections(lm: LanguageModel) -> list[str]:
    """The names of the modules that LoRA is put on.

    Raises:
        UserError: this LM calls its projections otherwise.
    """
    names = {name.rpartition(".")[2] for name, _ in lm.model.named_modules()}
    found = next((group for group in _PROJECTIONS if names.issuperset(group)), None)
    if found is None:
        raise UserError(
            f"model_type lora: the attention of {lm.model.config.model_type} has no projection that is known by name"
        )
    return list(found)


def build_prompt_tuning(config: Config, tokenizer: PreTrainedTokenizerBase) -> PromptTuning:
    """`model_type: prompt_tuning`."""
    return PromptTuning(load_language_model(config.model), tokenizer, config)


def build_lora(config: Config, tokenizer: PreTrainedTokenizerBase) -> LoraModel:
    """`model_type: lora`."""
    return LoraModel(load_language_model(config.model), tokenizer, config)


def build_full_finetuning(config: Config, tokenizer: PreTrainedTokenizerBase) -> PlainModel:
    """`model_type: full_finetuning`: every parameter of the LM is trained."""
    return PlainModel(load_language_model(config.model, frozen=False), tokenizer, config)


def build_textual(config: Config, tokenizer: PreTrainedTokenizerBase) -> PlainModel:
    """`model_type: textual`: the prompt text alone; nothing is trained."""
    return PlainModel(load_language_model(config.model), tokenizer, config)
