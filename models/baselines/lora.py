"""LoRA: low-rank updates of the attention's projections (Hu et al., 2022)."""

from typing import Annotated

from peft import LoraConfig, inject_adapter_in_model
from pydantic import Field
from torch import nn
from transformers import PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from models.lm.language_model import LanguageModel, load_language_model
from models.model_type import ModelType
from models.plain import PlainModel
from models.settings import Config, PretrainedSettings
from utils.config.schema import Positive, Section
from utils.errors import UserError


class LoraSizes(Section):
    """Sizes of the updates."""

    r: Annotated[int, Field(ge=1, le=10_000)] = 8
    """rank of LoRA's update"""
    lora_alpha: Positive = 16
    """LoRA's scale; the update is multiplied by lora_alpha / r"""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """dropout on LoRA's input in training"""


class LoraSettings(PretrainedSettings):
    """Which LM, which updates; keys of `model`."""

    peft_config: LoraSizes = LoraSizes()
    """sizes of the updates"""


class LoraModelConfig(Config):
    """The configuration of LoRA."""

    model: LoraSettings = LoraSettings()
    """the model"""


# what attention layers call their query and value projections, or the one that holds them all
_PROJECTIONS = (("q_proj", "v_proj"), ("query_key_value",), ("qkv_proj",), ("Wqkv",), ("c_attn",))


class LoraModel(PlainModel):
    """LoRA on the query and value projections, as in its paper (Hu et al., 2022), or on the one that holds both."""

    def __init__(
        self, lm: LanguageModel, tokenizer: PreTrainedTokenizerBase, config: LoraModelConfig
    ) -> None:
        sizes = config.model.peft_config
        adapter = LoraConfig(
            r=sizes.r,
            lora_alpha=sizes.lora_alpha,
            lora_dropout=sizes.lora_dropout,
            target_modules=projections(lm.model),
            fan_in_fan_out=is_transposed(lm.model),
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


def is_transposed(model: nn.Module) -> bool:
    """Whether the projections are stored transposed, as GPT-2's are."""
    return any(isinstance(module, Conv1D) for module in model.modules())


def projections(model: nn.Module) -> list[str]:
    """The names of the modules of an LM that LoRA is put on.

    Raises:
        UserError: this LM calls its projections otherwise.
    """
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    found = next((group for group in _PROJECTIONS if names.issuperset(group)), None)
    if found is None:
        kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
        raise UserError(f"LoRA: the attention of {kind} has no projection that is known by name")
    return list(found)


def build_lora(config: LoraModelConfig, tokenizer: PreTrainedTokenizerBase) -> LoraModel:
    """LoRA on the configured base LM."""
    return LoraModel(load_language_model(config.model), tokenizer, config)


MODEL_TYPE = ModelType(config=LoraModelConfig, build=build_lora)
