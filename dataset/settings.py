"""The sections of a configuration that say which dialogues are read, and how they become batches."""

from typing import Annotated, Literal, Protocol

from pydantic import Field

from dataset.dialogue import Silence
from utils.config.schema import Flag, Positive, Section


class DatasetSettings(Section):
    """Which dialogues, and how much of each."""

    format: str = "convai2"
    """reader of the files: see dataset/readers.py for the names"""
    train: str = "data_file/ConvAI2/train_self_original_no_cands.txt"
    """training file"""
    valid: str = "data_file/ConvAI2/valid_self_original_no_cands.txt"
    """validation file"""
    max_context_turns: Annotated[int, Field(ge=-1)] = -1
    """utterances of context that are kept, newest first; -1 keeps all"""
    max_token_length: Positive = 512
    """longest text in tokens, soft prompt not counted; the oldest turns are dropped to fit"""
    silence: Silence = "keep"
    """an opening `__SILENCE__`: keep; drop it, so that the answer begins; skip it, and that answer as an example"""
    cache_dir: str | None = "~/.cache/spt"
    """folder where large files are kept encoded, for all runs (docs/data.md); null encodes in memory, on every rank"""


class LoadingSettings(Section):
    """How examples become batches; keys of `training`."""

    batch_size: Annotated[Positive, Flag("batch")] = 32
    """examples per step and rank"""
    seed: Annotated[int, Field(ge=0, lt=2**31), Flag("seed")] = 3407
    """seed of initialisation, shuffling and noise"""
    rows: Literal["example", "dialogue"] = "example"
    """example: one text per example; dialogue: examples that are prefixes of one text share its forward pass"""
    only_longest: bool = False
    """train and validate on the last turn of each dialogue only"""
    num_workers: Annotated[int, Field(ge=0), Flag("num_workers")] = 0
    """processes that prepare batches"""
    training_ratio: Annotated[float, Field(gt=0, le=1), Flag("training_ratio", "PTRAIN")] = 1.0
    """share of the training dialogues that is used"""
    shuffle_train: Annotated[bool, Flag("shuffle_train")] = True
    """new order in every epoch"""
    freeze_persona: bool = True
    """keep the persona's tokens out of the LM loss"""
    freeze_context: bool = True
    """keep the context's tokens out of the LM loss"""

    def rules(self) -> list[tuple[bool, str]]:
        """Shared rows need persona and context out of the LM loss: it would count their tokens once per example."""
        return [
            (
                self.rows == "dialogue" and not (self.freeze_persona and self.freeze_context),
                "training.rows: dialogue needs freeze_persona and freeze_context (a shared prefix would be "
                "counted once per example)",
            )
        ]


class DataConfig(Protocol):
    """What the data needs of a configuration."""

    @property
    def dataset(self) -> DatasetSettings:
        """Which dialogues."""

    @property
    def training(self) -> LoadingSettings:
        """How they become batches."""
