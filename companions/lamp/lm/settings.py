"""The configurations of the LM's commands: which LM, which prompts, which outputs, and how it learns."""

from typing import Annotated, Literal

from pydantic import Field

from models.settings import OptimisationSettings
from utils.config.schema import Flag, NonNegative, Positive, Section

USUAL_BATCH = 16
"""the benchmark's own"""


class LMSettings(Section):
    """Which LM; keys of `model`."""

    model_name: Annotated[str | None, Flag("model_name")] = None
    """Hugging Face name or local folder of an encoder-decoder or decoder-only LM, or the run folder of a trained one"""
    load_bit: Annotated[Literal[16, 32, "bf16"], Flag("load_bit")] = 32
    """precision of the LM: 32 (float32), 16 (float16), bf16"""
    gradient_checkpointing: bool = False
    """trade time for memory: recompute the LM's activations in the backward pass"""
    fidelity: Literal["paper", "released_code"] = "paper"
    """paper: prompts and metrics as published; released_code: those of the benchmark's code, bug for bug"""

    @property
    def released(self) -> bool:
        """Whether prompts and metrics are those of the benchmark's code."""
        return self.fidelity == "released_code"

    def rules(self) -> list[tuple[bool, str]]:
        """The LM is named: there is no default."""
        return [(not self.model_name, "model.model_name is missing: a Hugging Face name or a local folder")]


class PromptSettings(Section):
    """Which questions, and what of the profiles the LM is given; keys of `dataset`."""

    task: Annotated[str | None, Flag("task")] = None
    """LaMP-1 to LaMP-7"""
    use_profile: bool = False
    """items of the profile stand in the prompt"""
    num_retrieved: Annotated[Positive, Flag("num_retrieved")] = 1
    """k: items in a prompt, at most"""
    is_ranked: bool = False
    """the profiles of the file are ranked already, best first"""
    retriever: Annotated[str, Flag("retriever")] = "bm25"
    """what ranks them, or has ranked them: bm25, contriever, recency, random, recency_contriever"""
    encoder: Annotated[str, Flag("contriever_checkpoint")] = "facebook/contriever"
    """encoder of `contriever`, where the profiles are not ranked"""
    max_length: Annotated[Positive, Flag("max_length")] = 256
    """L: tokens of a prompt and of a target, at most"""

    def rules(self) -> list[tuple[bool, str]]:
        """The task is named."""
        return [(not self.task, "dataset.task (--task) is missing: LaMP-1 to LaMP-7")]


class GenerationSettings(Section):
    """How outputs are made; keys of `generation`."""

    num_beams: Annotated[Positive, Flag("generation_num_beams")] = 4
    """outputs that are followed at a time"""
    max_length: Annotated[Positive, Flag("generation_max_length")] = 128
    """tokens of an output, with the one that it starts with, at most"""
    batch_size: Annotated[Positive | None, Flag("generation_batch_size")] = None
    """prompts of the full length in a batch, of shorter ones as many more as have as many tokens; null: 16, or as many
    as have room in memory"""


class LMTrainingSettings(OptimisationSettings):
    """How the LM is trained; keys of `training`."""

    learning_rate: Annotated[float, Field(gt=0), Flag("learning_rate")] = 5.0e-5
    """Adam's learning rate"""
    num_epochs: Annotated[Positive, Flag("num_train_epochs")] = 10
    """passes over the training questions"""
    batch_size: Annotated[Positive, Flag("per_device_batch_size")] = 16
    """questions per batch and rank"""
    accumulation_steps: Annotated[Positive, Flag("gradient_accumulation_steps")] = 1
    """batches per optimiser step; their gradients are averaged"""
    weight_decay: Annotated[NonNegative, Flag("weight_decay")] = 1.0e-4
    """decoupled weight decay (AdamW); of neither biases nor norms"""
    adam_epsilon: Annotated[NonNegative, Flag("adam_epsilon")] = 1.0e-8
    """what Adam adds to the root of the mean square"""
    grad_clip: Annotated[NonNegative, Flag("grad_clip")] = 1.0
    """largest gradient norm; 0 switches clipping off"""
    warmup_type: Annotated[
        Literal[
            "WarmupLR", "WarmupDecayLR", "WarmupCosineLR", "OneCycle", "LRRangeTest", "Linear", "LinearWarmup"
        ]
        | None,
        Flag("warmup_type"),
    ] = "Linear"
    """how the learning rate changes: one of DeepSpeed's schedulers, Linear, down to 0, or LinearWarmup, which stays"""
    log_every: Positive = 50
    """optimiser steps between two rows of metrics.jsonl"""
    seed: Annotated[int, Field(ge=0, lt=2**31), Flag("seed")] = 42
    """seed of order and dropout"""
    num_workers: Annotated[int, Field(ge=0), Flag("num_workers")] = 0
    """processes that prepare batches"""
    log_dir: Annotated[str, Flag("output_dir")] = "runs_lamp"
    """folder of the run folders"""


class TrainDataSettings(PromptSettings):
    """Keys of `dataset` of train_llm."""

    train: Annotated[str | None, Flag("train_data")] = None
    """merged file"""
    valid: Annotated[str | None, Flag("validation_data")] = None
    """merged file to choose the best checkpoint by"""
    test: Annotated[str | None, Flag("test_data")] = None
    """merged file that the best checkpoint is evaluated on; null: none"""

    def rules(self) -> list[tuple[bool, str]]:
        """Training and validation file are named."""
        return [
            (not self.train, "dataset.train (--train_data) is missing: a merged file"),
            (not self.valid, "dataset.valid (--validation_data) is missing: a merged file"),
        ]


class EvaluationDataSettings(PromptSettings):
    """Keys of `dataset` of evaluate_llm."""

    valid: Annotated[str | None, Flag("validation_data")] = None
    """questions or merged file; without outputs there are predictions and no metrics"""

    def rules(self) -> list[tuple[bool, str]]:
        """The file is named."""
        return [(not self.valid, "dataset.valid (--validation_data) is missing: a questions or merged file")]


class ItemFeedbackDataSettings(PromptSettings):
    """Keys of `dataset` of profile_item_utilization_scorer."""

    train: Annotated[str | None, Flag("train_data")] = None
    """merged file, ranked"""
    profile_size: Annotated[int, Field(ge=-1), Flag("profile_size")] = -1
    """first items of each profile that are scored; -1: all"""
    start_index: Annotated[int, Field(ge=0), Flag("start_index")] = 0
    """first pair of question and item that is scored, counted over the whole file"""
    end_index: Annotated[int, Field(ge=-1), Flag("end_index")] = -1
    """the pair before which scoring ends; -1: the end of the file"""
    max_length: Annotated[Positive, Flag("max_length")] = 512
    """L: tokens of a prompt and of a target, at most"""

    def rules(self) -> list[tuple[bool, str]]:
        """The file is named."""
        return [(not self.train, "dataset.train (--train_data) is missing: a merged file")]


class RetrieverFeedbackDataSettings(PromptSettings):
    """Keys of `dataset` of retriever_utilization_scorer."""

    data: Annotated[str | None, Flag("data_addr")] = None
    """merged file"""
    num_retrieved: Annotated[Positive, Flag("num_retrieved")] = 4
    """k: items in a prompt, at most"""

    def rules(self) -> list[tuple[bool, str]]:
        """The file is named."""
        return [(not self.data, "dataset.data (--data_addr) is missing: a merged file")]


class AnsweringConfig(Section):
    """What the commands that ask the LM have in common; each narrows `dataset` to its own section."""

    model: LMSettings
    """the LM"""
    dataset: PromptSettings
    """the questions"""
    generation: GenerationSettings = GenerationSettings()
    """the outputs"""


class TrainConfig(AnsweringConfig):
    """The configuration of train_llm."""

    dataset: TrainDataSettings
    """the questions"""
    training: LMTrainingSettings = LMTrainingSettings()
    """the training"""


class EvaluationModelSettings(LMSettings):
    """Keys of `model` of evaluate_llm."""

    model_name: Annotated[str | None, Flag("model_addr")] = None
    """Hugging Face name or local folder of an encoder-decoder or decoder-only LM, or the run folder of a trained one"""


class EvaluationConfig(AnsweringConfig):
    """The configuration of evaluate_llm."""

    model: EvaluationModelSettings
    """the LM"""
    dataset: EvaluationDataSettings
    """the questions"""


class ItemFeedbackConfig(AnsweringConfig):
    """The configuration of profile_item_utilization_scorer."""

    dataset: ItemFeedbackDataSettings
    """the questions"""


class RetrieverFeedbackConfig(AnsweringConfig):
    """The configuration of retriever_utilization_scorer."""

    dataset: RetrieverFeedbackDataSettings
    """the questions"""
