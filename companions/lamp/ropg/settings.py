"""The configuration of ROPG's training; config/lamp/ropg-kd.yml and ropg-rl.yml hold the paper's values."""

import math
from typing import Annotated, Literal

from pydantic import Field

from models.settings import OptimisationSettings
from utils.config.schema import Flag, NonNegative, Positive, Section, Temperature


class RetrieverSettings(Section):
    """Which encoder is trained; keys of `model`."""

    model_name: Annotated[str, Flag("model_path")] = "facebook/contriever"
    """Hugging Face name or local folder of the encoder to start from, or the run folder of a trained one"""
    load_bit: Literal[16, 32, "bf16"] = 32
    """precision of the encoder: 32 (float32), 16 (float16), bf16"""
    gradient_checkpointing: bool = False
    """trade time for memory: recompute the encoder's activations in the backward pass"""
    dropout: Annotated[float | None, Field(ge=0, lt=1), Flag("dropout")] = None
    """dropout while it is trained; null keeps that of its own configuration"""


class FeedbackDataSettings(Section):
    """Which questions, and what the LM made of their profile items; keys of `dataset`."""

    task: Annotated[str | None, Flag("task")] = None
    """LaMP-1 to LaMP-7"""
    train: Annotated[str | None, Flag("train_data")] = None
    """merged file, ranked by the encoder to start from: its first item is what ROPG-RL compares with"""
    train_scores: Annotated[str | None, Flag("scores_path")] = None
    """feedback on its items: a file, or a folder with several of them"""
    valid: Annotated[str | None, Flag("validation_data")] = None
    """merged file to choose the best checkpoint by; null: the training file"""
    valid_scores: Annotated[str | None, Flag("validation_scores_path")] = None
    """feedback on the items of that file"""
    ctx_size: Annotated[Positive, Flag("ctx_size")] = 16
    """first items of each profile that are used as candidates"""
    max_length_query: Annotated[Positive, Flag("max_length_query")] = 512
    """longest query in tokens"""
    max_length_document: Annotated[Positive, Flag("max_length_document")] = 512
    """longest profile item in tokens"""
    use_date: bool = True
    """the date of an item stands after its text, where it has one"""

    def rules(self) -> list[tuple[bool, str]]:
        """Training file, its feedback and the task are named; a validation file has feedback too."""
        return [
            (not self.task, "dataset.task (--task) is missing: LaMP-1 to LaMP-7"),
            (not self.train, "dataset.train (--train_data) is missing: a merged file"),
            (not self.train_scores, "dataset.train_scores (--scores_path) is missing: feedback on its items"),
            (
                bool(self.valid) != bool(self.valid_scores),
                "dataset.valid (--validation_data) and dataset.valid_scores (--validation_scores_path) go together",
            ),
        ]


class FeedbackTrainingSettings(OptimisationSettings):
    """How a scorer of candidates is trained; keys of `training`."""

    num_epochs: Annotated[Positive, Flag("epoch")] = 10
    """passes over the training questions; with total_steps the number of validations"""
    total_steps: Annotated[Positive | None, Flag("total_steps")] = None
    """optimiser steps in all, however many passes they are; null: num_epochs passes"""
    save_freq: Annotated[Positive, Flag("save_freq")] = 5000
    """with total_steps: optimiser steps between two validations, after which the best checkpoint is kept"""
    batch_size: Annotated[Positive, Flag("per_gpu_batch_size")] = 8
    """questions per batch and rank"""
    accumulation_steps: Annotated[Positive, Flag("accumulation_steps")] = 1
    """batches per optimiser step; their gradients are averaged"""
    seed: Annotated[int, Field(ge=0, lt=2**31), Flag("seed")] = 0
    """seed of order, dropout and drawn items"""
    num_workers: Annotated[int, Field(ge=0), Flag("num_workers")] = 0
    """processes that prepare batches"""
    grad_clip: Annotated[NonNegative, Flag("clip")] = 1.0
    """largest gradient norm; 0 switches clipping off"""
    optimizer: Annotated[Literal["adam", "adamw"], Flag("optim")] = "adam"
    """adam: weight decay is added to the gradient; adamw: it is not part of it (decoupled)"""
    weight_decay: Annotated[NonNegative, Flag("weight_decay")] = 0.0
    """weight decay"""
    log_dir: Annotated[str, Flag("checkpoint_dir")] = "checkpoint"
    """folder of the run folders"""

    @property
    def rounds(self) -> int:
        """How often the training stops for a validation."""
        return self.num_epochs if self.total_steps is None else math.ceil(self.total_steps / self.save_freq)


class RopgTrainingSettings(FeedbackTrainingSettings):
    """How the encoder is trained; keys of `training`."""

    best_by: Literal["utility", "loss"] = "utility"
    """best checkpoint: the highest mean utility of the item with the highest score, or the lowest validation loss"""


class KDSettings(RopgTrainingSettings):
    """Keys of `training` of ROPG-KD."""

    method: Literal["kd"] = "kd"
    """distillation: KL(softmax(utilities / temperature) || softmax(scores / temperature))"""
    temperature: Annotated[Temperature, Flag("temperature")] = 1.0
    """of the LM's preference and of the scores"""


class RLSettings(RopgTrainingSettings):
    """Keys of `training` of ROPG-RL."""

    method: Literal["rl"] = "rl"
    """policy gradient; the reward of an item is its utility minus that of the profile's first item"""
    expectation: Annotated[Literal["sampled", "exact"], Flag("expectation")] = "sampled"
    """sampled: one item is drawn per question and step (REINFORCE); exact: the mean over all of them"""


class RopgConfig(Section):
    """A whole configuration; a method narrows `training` to its own section."""

    model: RetrieverSettings = RetrieverSettings()
    """the encoder"""
    dataset: FeedbackDataSettings = FeedbackDataSettings()
    """the data"""
    training: RopgTrainingSettings = RopgTrainingSettings()
    """the training"""


class KDConfig(RopgConfig):
    """The configuration of ROPG-KD."""

    training: KDSettings = KDSettings()
    """the training"""


class RLConfig(RopgConfig):
    """The configuration of ROPG-RL."""

    training: RLSettings = RLSettings()
    """the training"""
