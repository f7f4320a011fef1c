"""The configuration of RSPG; config/lamp/rspg.yml holds the paper's values."""

from typing import Annotated, Literal

from companions.lamp.lm import settings as lm_settings
from companions.lamp.ropg.settings import FeedbackTrainingSettings, RetrieverSettings
from utils.config.schema import Flag, Positive, Section, Temperature


class ScorerSettings(RetrieverSettings):
    """Which encoder scores the strategies; keys of `model`."""

    model_name: Annotated[str, Flag("model_path")] = "allenai/longformer-base-4096"
    """Hugging Face name or local folder of the encoder to start from, or the run folder of a trained scorer"""
    fidelity: Annotated[Literal["paper", "released_code"], Flag("fidelity")] = "paper"
    """released_code: no global attention on the first token, outputs keep their case and are what is cut first"""

    @property
    def released(self) -> bool:
        """Whether the release's arithmetic is asked for."""
        return self.fidelity == "released_code"


class ChoiceDataSettings(Section):
    """Which questions, and what the scorer sees of them; keys of `dataset`."""

    task: Annotated[str | None, Flag("task")] = None
    """LaMP-1 to LaMP-7"""
    train: Annotated[str | None, Flag("train_data")] = None
    """training questions, as create_data writes them"""
    valid: Annotated[str | None, Flag("val_data")] = None
    """questions to choose the best checkpoint by and to predict, likewise"""
    valid_golds: Annotated[str | None, Flag("val_lamp_golds")] = None
    """outputs file with the golds of these; null: those in dataset.valid"""
    rspg_type: Annotated[Literal["Pre", "Post"] | None, Flag("rspg_type")] = None
    """Pre: the scorer sees the prompt that each strategy leads to; Post: the LM's output, too"""
    max_length_input: Annotated[Positive, Flag("max_length_input")] = 1024
    """longest input of the scorer in tokens"""

    def rules(self) -> list[tuple[bool, str]]:
        """Task, type and validation file are named."""
        return [
            (not self.task, "dataset.task (--task) is missing: LaMP-1 to LaMP-7"),
            (not self.rspg_type, "dataset.rspg_type (--rspg_type) is missing: Pre or Post"),
            (not self.valid, "dataset.valid (--val_data) is missing: a file of create_data"),
        ]


class RspgTrainingSettings(FeedbackTrainingSettings):
    """Keys of `training`."""

    num_epochs: Annotated[Positive, Flag("epoch")] = 20
    """passes over the training questions; with total_steps the number of validations"""
    save_freq: Annotated[Positive, Flag("eval_freq")] = 500
    """with total_steps: optimiser steps between two validations, after each of which checkpoints are kept"""
    temperature: Annotated[Temperature, Flag("temperature")] = 1.0
    """of the scores: softmax(scores / temperature)"""
    label_temperature: Annotated[Temperature, Flag("label_temperature")] = 1.0
    """of the LM's preference: softmax(utilities / label_temperature)"""


class RspgConfig(Section):
    """A whole configuration."""

    model: ScorerSettings = ScorerSettings()
    """the scorer"""
    dataset: ChoiceDataSettings = ChoiceDataSettings()
    """the data"""
    training: RspgTrainingSettings = RspgTrainingSettings()
    """the training"""


class AnsweringDataSettings(lm_settings.PromptSettings):
    """Keys of `dataset` of answer_once; the files are ranked, and strategies say which use the profile."""

    scorer: Annotated[str | None, Flag("scorer")] = None
    """run folder of a trained scorer of type Pre"""
    strategies: Annotated[str | None, Flag("strategies")] = None
    """its strategies with their merged files, ranked; one without leaves the profile out: none,bm25=FILE,recency=FILE:2
    (2 items of it in a prompt)"""
    scorer_batch_size: Annotated[Positive, Flag("per_gpu_batch_size")] = 8
    """questions with inputs of the full length that are scored together"""
    num_retrieved: Annotated[Positive, Flag("num_retrieved")] = 4
    """k: items in a prompt, at most"""

    def rules(self) -> list[tuple[bool, str]]:
        """Scorer and strategies are named."""
        return [
            (not self.scorer, "dataset.scorer (--scorer) is missing: the run folder of a trained scorer"),
            (not self.strategies, "dataset.strategies (--strategies) is missing, such as none,bm25=FILE"),
        ]


class AnsweringConfig(lm_settings.AnsweringConfig):
    """The configuration of answer_once."""

    dataset: AnsweringDataSettings
    """the questions"""
