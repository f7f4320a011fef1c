"""The configuration of `model_type: personagpt`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from dataset.settings import DatasetSettings
from models.settings import Config, PretrainedSettings, TrainingSettings
from utils.config.schema import NonNegative, Positive


class PersonaModelSettings(PretrainedSettings):
    """Which LM, and how it is steered; keys of `model`."""

    action_prompt: Literal["A", "B"] = "B"
    """layout of the action prompt: B, or A as the published weights were used with"""


class PersonaDatasetSettings(DatasetSettings):
    """Which dialogues and which examples of action codes."""

    train: str = "data_file/ConvAI2/train_both_original_no_cands.txt"
    """training file, with the personas of both speakers; or what preprocess_dataset wrote"""
    valid: str = "data_file/ConvAI2/valid_both_original_no_cands.txt"
    """validation file, of the same kind"""
    actions: str | None = None
    """examples of action codes, .csv or .jsonl; the control stage needs them"""
    valid_actions: str | None = None
    """further ones to validate on"""
    goals: str | None = None
    """phrases of the action codes, one per line; null for the eleven of PersonaGPT"""
    max_utterances: Positive = 20
    """utterances of a dialogue that are used, both speakers counted"""
    drop_duplicates: bool = True
    """leave out examples that came before: ConvAI2's training file holds each dialogue from both sides"""
    max_token_length: Positive = 1024
    """longest text in tokens; the oldest turns are dropped to fit, facts or action code stay"""


class PersonaTrainingSettings(TrainingSettings):
    """How the LM is trained; keys of `training`."""

    stage: Literal["pretrain", "control"] = "pretrain"
    """pretrain: on dialogues; control: on action codes too, one new example beside one old"""
    rows: Literal["example", "dialogue"] = "dialogue"
    """dialogue: all answers of one speaker in a dialogue share a forward pass; example: each has its own"""
    special_rows_rate: Annotated[float, Field(gt=0)] = 5.0e-4
    """control: learning rate of the rows of <|start|>, <|p1|>, <|p2|>, <|act|> in the token table"""
    other_rows_rate: NonNegative = 1.0e-8
    """control: learning rate of the other rows"""
    positions_rate: NonNegative = 1.0e-6
    """control: learning rate of the position table"""
    weight_decay: NonNegative = 0.0
    """decoupled weight decay (AdamW)"""


class PersonaConfig(Config):
    """The configuration of PersonaGPT."""

    released_reads_padding: ClassVar[bool] = False
    """all texts are read from their start"""

    model: PersonaModelSettings = PersonaModelSettings()
    """the model"""
    training: PersonaTrainingSettings = PersonaTrainingSettings()
    """the training"""
    dataset: PersonaDatasetSettings = PersonaDatasetSettings()
    """the data"""

    def rules(self) -> list[tuple[bool, str]]:
        """The control stage has examples of action codes."""
        return [
            (
                self.training.stage == "control" and not self.dataset.actions,
                "training.stage: control needs dataset.actions, a file with examples of action codes",
            )
        ]
