"""The configuration of SPT (`model_type: selective_pt`); its parts declare their own keys."""

from typing import Annotated, Literal

from models.settings import Config, PretrainedSettings, TrainingSettings
from models.spt.retriever import RetrieverSettings
from models.spt.soft_prompts import PromptSizes, PromptStartSettings
from models.spt.terms import active_losses
from utils.config.schema import Flag, Positive

_MOST_VIRTUAL_TOKENS = 100_000


class SelectiveModelSettings(RetrieverSettings, PromptStartSettings, PretrainedSettings):
    """Which LM, which soft prompts, which retriever; keys of `model`."""

    peft_type: Literal["prompt_tuning"] = "prompt_tuning"
    """kept from the released files; the kind of training is model_type"""
    K: Positive = 4
    """number of soft prompts"""
    peft_config: PromptSizes = PromptSizes()
    """sizes of a soft prompt"""

    def rules(self) -> list[tuple[bool, str]]:
        """What fits any memory."""
        return [
            (
                self.K * self.peft_config.num_virtual_tokens > _MOST_VIRTUAL_TOKENS,
                "model.K times model.peft_config.num_virtual_tokens is more than 100,000 virtual tokens",
            )
        ]


class SelectiveTrainingSettings(TrainingSettings):
    """How SPT learns; each loss has keys of its own in models/spt/terms.py."""

    mode: Annotated[Literal["causal"], Flag("mode")] = "causal"
    """kept from the released files"""
    task_type: Literal["generate_response"] = "generate_response"
    """kept from the released files"""
    only_nll: bool = False
    """train with the LM loss alone"""
    skip_retrieval: bool = False
    """no retriever: prompts are chosen at random at decoding, and only L_LLM trains them"""
    all_tunable: bool = False
    """train the LM's own parameters too"""

    def rules(self) -> list[tuple[bool, str]]:
        """Something to learn from."""
        disabled = (
            "training.only_nll and training.disable_nll leave"
            if self.only_nll
            else "training.disable_nll leaves"
        )
        return [
            (
                all(term.weight(self) is None for term in active_losses(self).values()),
                f"{disabled} no loss: every other one is off too",
            )
        ]


class SelectiveConfig(Config):
    """The configuration of SPT."""

    model: SelectiveModelSettings = SelectiveModelSettings()
    """the model"""
    training: SelectiveTrainingSettings = SelectiveTrainingSettings()
    """the training"""
