"""The keys of SPT (`model_type: selective_pt`), component by component.

Kept apart from the components, which need torch: `train.py --help` shows these keys at once.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from models.settings import Config, PretrainedSettings, TrainingSettings
from utils.config.schema import Flag, NonNegative, Positive, Section, Several, Temperature

MOST_VIRTUAL_TOKENS = 100_000


class PromptSizes(Section):
    """Sizes of a soft prompt."""

    num_virtual_tokens: Positive = 8
    """V, virtual tokens per soft prompt (and per layer for prefix tuning)"""


class PromptStartSettings(Section):
    """Where soft prompts start from; keys of `model`."""

    prompt_init: Literal["random", "vocab", "text"] = "random"
    """random: N(0, 1); vocab: embeddings of randomly drawn tokens; text: embeddings of prompt_init_text"""
    prompt_init_text: str | None = None
    """the text of `prompt_init: text`, repeated or cut to V tokens; prompts 1.. get noise of 0.5 embedding stds"""

    def rules(self) -> list[tuple[bool, str]]:
        """`prompt_init: text` needs `prompt_init_text`."""
        return [
            (
                self.prompt_init == "text" and not self.prompt_init_text,
                "model.prompt_init: text needs model.prompt_init_text",
            )
        ]


class EncoderSettings(Section):
    """What the retriever reads, an encoder before its linear layer, and what gives the scores after it."""

    retriever_type: Literal["transformer_encoder"] | None = None
    """null: mean of embeddings only; transformer_encoder: a trainable encoder first"""
    retriever_on: Several[Literal["extra", "lm"]] = ("extra", "lm")
    """what passes through the encoder: the prompts (extra), the context (lm)"""
    n_head: Positive = 4
    """attention heads of the encoder; must divide D"""
    num_layers: Annotated[int, Field(ge=1, le=200)] = 1
    """layers of the encoder"""
    query: Literal["context_mean", "last_turn", "hidden"] = "context_mean"
    """what is read of an example: all its embeddings; those of the last turn; the bare LM's hidden states there"""
    query_whiten: bool = False
    """give what is read mean 0 and equal variances in all directions, by the training's own queries at its start"""
    scorer: Literal["cosine", "linear"] = "cosine"
    """cosine: of prompt and context; linear: a weight vector and a bias per prompt, on the context alone"""

    def rules(self) -> list[tuple[bool, str]]:
        """The linear scorer reads the context, so the encoder must; what is whitened does not change."""
        return [
            (
                self.query_whiten and self.retriever_type is not None and "lm" in self.retriever_on,
                "model.retriever.query_whiten needs queries that stay as they are: set model.retriever.retriever_on "
                "to [extra], or retriever_type to null",
            ),
            (
                self.scorer == "linear" and self.retriever_type is not None and "lm" not in self.retriever_on,
                "model.retriever.retriever_on without lm leaves the encoder out of model.retriever.scorer: linear, "
                "which reads the context alone",
            ),
        ]


class RetrieverSettings(Section):
    """How soft prompts are scored against a context; keys of `model`."""

    normalizer: Literal["linear"] | None = "linear"
    """linear: one Linear(D, D) shared by prompts and context; null: cosine of the plain means"""
    normalizer_on: Several[Literal["prompt", "lm"]] = ("prompt", "lm")
    """what passes through the normalizer: the prompts, the context (lm)"""
    score_activation: Literal["softplus", "relu", "leaky_relu"] = "softplus"
    """activation on the cosine: softplus has beta 10, threshold 1"""
    retriever: EncoderSettings = EncoderSettings()
    """what is read, an encoder before the normalizer, and what gives the scores after it"""

    def rules(self) -> list[tuple[bool, str]]:
        """What only cosines have is not asked of the linear scorer."""
        is_linear = self.retriever.scorer == "linear"
        return [
            (
                is_linear and self.score_activation != "softplus",
                "model.score_activation is of cosines; model.retriever.scorer: linear has none: leave it out",
            ),
            (
                is_linear and self.normalizer is not None and "lm" not in self.normalizer_on,
                "model.normalizer_on without lm leaves the normalizer out of model.retriever.scorer: linear, which "
                "reads the context alone",
            ),
        ]


class LLMLossSettings(Section):
    """L_LLM, the LM's own loss; keys of `training`."""

    disable_nll: bool = False
    """train without the LM loss"""
    annealing_nll: bool = False
    """weight each prompt's token losses by clamp(scalar * (1 - progress) * softmax(scores))"""
    annealing_scalar: NonNegative = 1.0
    """scalar of the annealing"""
    annealing_min: NonNegative = 0.0
    """lower end of the clamp"""
    annealing_max: NonNegative = 1.0
    """upper end of the clamp"""
    assignment: Literal["all", "turn", "posterior"] = "all"
    """prompts that an example trains by L_LLM: all; that of its turn; each by its probability given the response"""
    assignment_tau: Temperature = 1.0
    """temperature of assignment: posterior, on losses summed over the response"""

    def rules(self) -> list[tuple[bool, str]]:
        """`annealing_min` is at most `annealing_max`; L_LLM is there, and has one kind of weights."""
        return [
            (
                self.assignment != "all" and self.annealing_nll,
                "training.assignment and training.annealing_nll both weigh L_LLM by prompt: leave one of them out",
            ),
            (
                self.assignment != "all" and self.disable_nll,
                "training.assignment needs L_LLM, which training.disable_nll switches off",
            ),
            (
                self.annealing_min > self.annealing_max,
                "training.annealing_min is larger than training.annealing_max",
            ),
        ]


class SelectionLossSettings(Section):
    """L_selection; keys of `training`."""

    selective_loss: bool = True
    """the retriever learns from the LM's losses (L_selection)"""
    selective_loss_weight: Annotated[NonNegative, Flag("selective_loss_weight", "SLW")] = 0.4
    """weight of L_selection"""
    tau_gold: Temperature = 1.0
    """temperature of the LM's preference over prompts"""
    selection_target: Literal["mean", "sum"] = "mean"
    """what of the LM's losses the preference is made of: their mean per target token, or their sum over the tokens"""
    tau_sim: Temperature = 1.0
    """temperature of the retriever's scores"""
    adding_noise: Annotated[NonNegative | None, Flag("adding_noise", "NOISE")] = None
    """standard deviation of the noise added to the LM's preference"""


class FusionLossSettings(Section):
    """L_fusion; keys of `training`."""

    ensemble: bool = True
    """cross-entropy of the score-weighted sum of all prompts' logits (L_fusion)"""
    fusion: Literal["raw", "normalised", "off"] = "raw"
    """raw: the scores weigh the logits; normalised: their softmax weighs the losses; off: as ensemble: false"""

    def rules(self) -> list[tuple[bool, str]]:
        """A kind of L_fusion is asked for only where there is an L_fusion."""
        return [
            (
                self.fusion == "normalised" and not self.ensemble,
                "training.fusion: normalised needs training.ensemble: true, which switches L_fusion on",
            )
        ]


class ContrastiveLossSettings(Section):
    """L_contrastive; keys of `training`."""

    contrastive: bool = True
    """kept from the released files: false switches L_contrastive off"""
    contrastive_metric: Literal["bleu"] | None = "bleu"
    """how similar two personas are; null switches L_contrastive off"""
    contrastive_threshold: Annotated[float, Field(ge=0, le=100)] = 20.0
    """sentence-BLEU (0 to 100) above which two personas count as similar"""
    contrastive_weight: Annotated[NonNegative, Flag("contrastive_weight", "CTRW")] = 0.4
    """weight of L_contrastive"""


class SelectiveModelSettings(RetrieverSettings, PromptStartSettings, PretrainedSettings):
    """Which LM, which soft prompts, which retriever; keys of `model`."""

    peft_type: Literal["prompt_tuning"] = "prompt_tuning"
    """kept from the released files; the kind of training is model_type"""
    K: Positive = 4
    """number of soft prompts"""
    peft_config: PromptSizes = PromptSizes()
    """sizes of a soft prompt"""
    prompts_per_pass: Positive | None = None
    """prompts that go through the LM at once in training; null: all K. Fewer: less memory, more time, equal losses"""

    def rules(self) -> list[tuple[bool, str]]:
        """K x V is limited, so that a mistyped size is an error before memory is taken for it."""
        return [
            (
                self.prompts_per_pass is not None and self.prompts_per_pass > self.K,
                "model.prompts_per_pass is larger than model.K",
            ),
            (
                self.K * self.peft_config.num_virtual_tokens > MOST_VIRTUAL_TOKENS,
                "model.K times model.peft_config.num_virtual_tokens is more than 100,000 virtual tokens",
            ),
        ]


class SelectiveTrainingSettings(
    ContrastiveLossSettings, FusionLossSettings, SelectionLossSettings, LLMLossSettings, TrainingSettings
):
    """How SPT learns."""

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
    warm_start_prompt: str | None = None
    """the run folder of a prompt_tuning run of equal V, whose prompt, with small offsets, all prompts start from"""

    def rules(self) -> list[tuple[bool, str]]:
        """At least one loss is on, registered losses included; turns that prompts are assigned by are kept."""
        from models.spt.terms import active_losses

        disabled = (
            "training.only_nll and training.disable_nll leave"
            if self.only_nll
            else "training.disable_nll leaves"
        )
        return [
            (
                all(term.weight(self) is None for term in active_losses(self).values()),
                f"{disabled} no loss: every other one is off too",
            ),
            (
                self.assignment == "turn" and self.only_longest,
                "training.assignment: turn splits a dialogue by its turns, of which training.only_longest keeps one",
            ),
        ]


class SelectiveConfig(Config):
    """The configuration of SPT."""

    chooses_prompts: ClassVar[bool] = True
    """K soft prompts"""

    model: SelectiveModelSettings = SelectiveModelSettings()
    """the model"""
    training: SelectiveTrainingSettings = SelectiveTrainingSettings()
    """the training"""

    def rules(self) -> list[tuple[bool, str]]:
        """`fidelity: released_code` has what the release has; only cosines can weigh logits as they are."""
        from models.spt.terms import active_losses

        linear = self.model.retriever.scorer == "linear"
        beyond = {
            "model.retriever.scorer: linear": linear,
            f"model.retriever.query: {self.model.retriever.query}": self.model.retriever.query
            != "context_mean",
            "model.retriever.query_whiten": self.model.retriever.query_whiten,
            "training.warm_start_prompt": self.training.warm_start_prompt is not None,
            f"training.assignment: {self.training.assignment}": self.training.assignment != "all",
            "training.fusion: normalised": self.training.fusion == "normalised",
            "training.selection_target: sum": self.training.selection_target == "sum",
        }
        return [
            (
                self.model.released and is_on,
                f"{setting} needs model.fidelity: paper (the authors' release has no such setting)",
            )
            for setting, is_on in beyond.items()
        ] + [
            (
                self.model.retriever.query_whiten and self.training.all_tunable,
                "model.retriever.query_whiten needs queries that stay as they are, which training.all_tunable changes",
            ),
            (
                self.training.warm_start_prompt is not None and self.model.prompt_init != "random",
                "training.warm_start_prompt and model.prompt_init both say what the prompts start from: leave one of "
                "them out",
            ),
            (
                linear and "fusion" in active_losses(self.training) and self.training.fusion == "raw",
                "training.fusion: raw needs model.retriever.scorer: cosine (scores of a linear one have any size and "
                "sign): set it to normalised or off",
            ),
        ]
