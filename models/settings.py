"""The configuration that every model type has: which LM, how it learns, which data, how it replies.

A model type adds its own keys in a subclass of `Config`, see docs/extending.md.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from dataset.settings import DatasetSettings, LoadingSettings
from models.decoding.settings import ChatSettings, DecodingSettings
from utils.config.schema import Flag, NonNegative, Positive, Section


class LMSettings(Section):
    """Which model, in which precision and arithmetic; keys of `model`."""

    model_type: str = "selective_pt"
    """what is trained: see models/registry.py for the names"""
    fidelity: Literal["paper", "released_code"] = "paper"
    """paper: the method as published; released_code: the arithmetic of the authors' release, bug for bug"""
    load_bit: Literal[16, 32, "bf16"] = 32
    """precision of the LM: 32 (float32), 16 (float16), bf16"""
    tf32: bool = False
    """on CUDA, compute products of float32 in TF32: faster, with 3 digits instead of 7"""
    gradient_checkpointing: bool = False
    """trade time for memory: recompute the LM's activations in the backward pass"""

    @property
    def released(self) -> bool:
        """Whether the arithmetic is that of the authors' release (models/release/)."""
        return self.fidelity == "released_code"

    @property
    def base_lm(self) -> str | None:
        """The LM that the model stands on; None: it is made from scratch."""
        return None


class PretrainedSettings(LMSettings):
    """A base LM that is there already; keys of `model`."""

    model_name: str | None = None
    """Hugging Face name or local folder of the base LM, or the run folder of a trained base LM"""

    @property
    def base_lm(self) -> str | None:
        """`model_name`."""
        return self.model_name

    def rules(self) -> list[tuple[bool, str]]:
        """The base LM is named: there is no default."""
        return [
            (not self.model_name, "model.model_name is missing: a Hugging Face name or a local folder"),
        ]


class OptimisationSettings(Section):
    """How a module is trained, whatever it is; keys of `training`."""

    learning_rate: Annotated[float, Field(gt=0), Flag("lr", "LR")] = 1.0e-5
    """Adam's learning rate"""
    num_epochs: Annotated[Positive, Flag("epoch")] = 1
    """passes over the training data"""
    log_dir: Annotated[str, Flag("log_dir")] = "runs_prompt_convai2_selective_linear"
    """folder of the run folders"""
    log_every: Positive = 10
    """optimiser steps between two rows of metrics.jsonl"""
    save_model: Annotated[bool, Flag("save_model")] = True
    """keep checkpoints"""
    save_steps: Annotated[int, Field(ge=0, lt=2**31), Flag("save_steps")] = 0
    """optimiser steps between two checkpoints; 0: at the end of each epoch only, and when it is terminated"""
    deterministic: Annotated[bool, Flag("deterministic")] = False
    """the same bits in every run on the same machine, where a device has a faster way without that"""
    grad_clip: Annotated[NonNegative, Flag("grad_clip")] = 0.0
    """largest gradient norm; 0 switches clipping off"""
    warmup_type: Annotated[
        Literal[
            "WarmupLR", "WarmupDecayLR", "WarmupCosineLR", "OneCycle", "LRRangeTest", "Linear", "LinearWarmup"
        ]
        | None,
        Flag("warmup_type"),
    ] = None
    """how the learning rate changes: one of DeepSpeed's schedulers, Linear, down to 0, or LinearWarmup, which stays"""
    warmup_min: Annotated[NonNegative, Flag("warmup_min")] = 0.0
    """learning rate at the start of the warm-up"""
    warmup_ratio: Annotated[float, Field(ge=0, le=1), Flag("warmup_ratio")] = 0.05
    """share of all steps that is warm-up"""

    def rules(self) -> list[tuple[bool, str]]:
        """The warm-up starts no higher than the learning rate that it rises to."""
        return [
            (
                self.warmup_type is not None and self.warmup_min > self.learning_rate,
                "training.warmup_min is larger than training.learning_rate, which the warm-up rises to",
            )
        ]


class TrainingSettings(OptimisationSettings, LoadingSettings):
    """The keys of `training` that every model type has."""


class Config(Section):
    """A whole configuration; a model type narrows `model` and `training` to its own sections."""

    released_reads_padding: ClassVar[bool] = True
    """whether `fidelity: released_code` reads the padding of each example's own row"""
    chooses_prompts: ClassVar[bool] = False
    """whether there are soft prompts to choose among"""

    model: LMSettings
    """the model"""
    training: TrainingSettings = TrainingSettings()
    """the training"""
    dataset: DatasetSettings = DatasetSettings()
    """the data"""
    decoding: DecodingSettings = DecodingSettings()
    """how test.py replies"""
    chat: ChatSettings = ChatSettings()
    """how the chat replies"""

    def rules(self) -> list[tuple[bool, str]]:
        """The release keeps `__SILENCE__`, and its retriever reads each row's padding; a router needs a choice."""
        fitted = [part.name for part in (self.decoding, self.chat) if part.router == "fitted"]
        return [
            *(
                (
                    not self.chooses_prompts,
                    f"{name}.router: fitted needs a model type with soft prompts to choose among",
                )
                for name in fitted
            ),
            (
                self.released_reads_padding and self.model.released and self.training.rows == "dialogue",
                "training.rows: dialogue needs model.fidelity: paper (the release's retriever reads padding, "
                "which a shared row does not have)",
            ),
            (
                self.model.released and self.dataset.silence != "keep",
                f"dataset.silence: {self.dataset.silence} needs model.fidelity: paper (the authors' release has no "
                "such setting)",
            ),
        ]


class PlainConfig(Config):
    """The configuration of a model type without keys of its own."""

    model: PretrainedSettings = PretrainedSettings()
    """the model"""
