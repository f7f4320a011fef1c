"""A training task: what the trainer is given, and what it asks of batches and of their loaders."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from models.trainable import Trainable
from utils.distributed import DistributedContext
from utils.precision import Precision


class TrainingBatch(Protocol):
    """What the trainer asks of a batch; what else it holds is between loader and module."""

    @property
    def num_examples(self) -> int:
        """B: what is counted, and what diagnostics are means over."""

    @property
    def indices(self) -> Tensor:
        """[B] int64 places of the examples in their data set; asked for with `StepOutput.per_example`.

        A batch without them is not named when its loss is not finite.
        """

    def to(self, device: torch.device) -> Any:
        """The same batch on another device."""


class EpochSampler(Protocol):
    """Which examples make up the batches of this rank. All ranks have the same number of batches."""

    last_is_repeat: bool
    """the last batch holds only examples that another rank has too: validation does not count them"""

    def set_epoch(self, epoch: int, done: Sequence[Sequence[int]] = ()) -> None:
        """Choose the order of an epoch, counted from 0; called before each pass over the training batches.

        Args:
            epoch: its number.
            done: what a run that goes on has done of it: (ranks, batches of each of them), one after another where
                the number of ranks changed. Those batches do not come again.
        """


class BatchLoader(Protocol):
    """The batches of this rank, pass by pass. A `torch.utils.data.DataLoader` is one if its sampler is."""

    dataset: Any
    """all examples of all ranks, by number: `len` and `[number]`; `locate(numbers)`, where it has it, gives the words
    that say where examples stand in their file"""
    batch_sampler: Any
    """an `EpochSampler`"""

    def __len__(self) -> int:
        """Batches of one pass."""

    def __iter__(self) -> Iterator[Any]:
        """One pass; items are a `TrainingBatch`."""


@dataclass(frozen=True)
class Prepared:
    """Module and batches, ready for the engine."""

    module: Trainable
    train: BatchLoader
    valid: BatchLoader
    notes: Sequence[str] = ()
    """automatic choices that were made on the way, to be printed"""
    batching: str = ""
    """what is to be said of the batches beside their number"""
    warnings: Mapping[str, str] = field(default_factory=dict)
    """what is wrong with the data: sentences by the name of the fault, as `Trainable.faults` has them"""


@dataclass(frozen=True)
class Task:
    """What is to be trained. Cheap to make: model and data come with `prepare`, once the settings are checked.

    `prepare` is called on every rank, with Python's, NumPy's and torch's random state set to `training.seed`.
    """

    config: Any
    """the resolved configuration as it is written to the run folder, with a section `training`"""
    prepare: Callable[[DistributedContext], Prepared]
    """loads everything, for this rank"""
    precision: Precision = 32
    """that the engine trains in"""
    accumulation_steps: int | None = None
    """batches per optimiser step; None: as the DeepSpeed configuration says"""
    notes: Sequence[str] = ()
    """automatic choices that were made on the way, to be printed"""
    files: Mapping[str, str] = field(default_factory=dict)
    """files that the training rests on, by the key that the metadata gives each of them and its hash"""
