"""The keys of `model_type: routed_prompts`."""

from typing import ClassVar, Literal

from models.settings import Config, PretrainedSettings, TrainingSettings
from models.spt.settings import MOST_VIRTUAL_TOKENS, PromptSizes, PromptStartSettings
from utils.config.schema import NonNegative, Positive


class RoutedModelSettings(PromptStartSettings, PretrainedSettings):
    """Which LM, which soft prompts, and what stands before a text; keys of `model`."""

    router: Literal["smop", "random", "turn", "gated"] = "smop"
    """smop: one prompt, scaled, by a learned router; random, turn: one prompt, drawn, by turn; gated: all, scaled"""
    router_noise: NonNegative | None = None
    """standard deviation of SMoP's router perturbation in training; null: 1 / K"""
    K: Positive = 4
    """number of soft prompts"""
    peft_config: PromptSizes = PromptSizes()
    """sizes of a soft prompt"""

    @property
    def copies(self) -> int:
        """How many copies of a row a training step reads at most."""
        return self.K if self.router == "turn" else 1

    def rules(self) -> list[tuple[bool, str]]:
        """Only SMoP has noise; K x V is limited as SPT's is."""
        return [
            (
                self.router_noise is not None and self.router != "smop",
                f"model.router_noise is of model.router: smop, not of {self.router}: leave it out",
            ),
            (
                self.K * self.peft_config.num_virtual_tokens > MOST_VIRTUAL_TOKENS,
                "model.K times model.peft_config.num_virtual_tokens is more than 100,000 virtual tokens",
            ),
        ]


class RoutedTrainingSettings(TrainingSettings):
    """How routed prompts learn."""

    warm_start_prompt: str | None = None
    """the run folder of a prompt_tuning run of equal V, whose prompt, with small offsets, all prompts start from"""


class RoutedConfig(Config):
    """The configuration of routed prompts."""

    chooses_prompts: ClassVar[bool] = True
    """K soft prompts, but for gated concatenation"""

    model: RoutedModelSettings = RoutedModelSettings()
    """the model"""
    training: RoutedTrainingSettings = RoutedTrainingSettings()
    """the training"""

    def rules(self) -> list[tuple[bool, str]]:
        """Examples share a row only where they can share what stands before it."""
        router = self.model.router
        return [
            (
                router in ("smop", "gated") and self.training.rows == "dialogue",
                f"model.router: {router} needs training.rows: example (what stands before a text is scaled for that "
                "text alone, so that no two can share a row)",
            ),
            (
                router == "turn" and self.training.only_longest,
                "model.router: turn splits a dialogue by its turns, of which training.only_longest keeps one",
            ),
            (
                self.training.warm_start_prompt is not None and self.model.prompt_init != "random",
                "training.warm_start_prompt and model.prompt_init both say what the prompts start from: leave one of "
                "them out",
            ),
        ]
