"""What the trainer asks of a module: losses, figures with their reducers, parameter groups, and how it is saved."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from models.trained_part import read_trained, write_trained
from utils.errors import UserError, shown
from utils.partitioning import is_partitioned, whole, whole_shape

if TYPE_CHECKING:  # takes seconds
    from utils.distributed import DistributedContext

Reducer = Callable[[Tensor, int], dict[str, float | list[float]]]
"""(float64 sum of a diagnostic over all batches and ranks, number of examples) -> figures of a row, by name"""


class StepOutput(NamedTuple):
    """What one batch gives: the loss to minimise, each loss apart (unweighted), and diagnostics.

    A tuple, as ZeRO stage 3 must find the tensors in what a module returns.
    """

    total: Tensor  # scalar
    losses: dict[str, Tensor]  # scalars
    # what each loss is a mean over, such as the batch's target tokens, examples or pairs
    counts: dict[str, int]
    # sums over the batch's examples, of any shape; see `Trainable.reducers`
    diagnostics: dict[str, Tensor] = {}
    per_example: Tensor | None = None  # [B, F] what `file_losses` asks of every example


@dataclass(frozen=True)
class Figure:
    """The figure of the validation row that the best checkpoint is chosen by.

    Args:
        name: `total`, a loss, or what a reducer names.
        direction: which values are better.
        words: what it is called on the screen and in the metadata.
    """

    name: str
    direction: Literal["lower", "higher"]
    words: str

    def __post_init__(self) -> None:
        if self.direction not in ("lower", "higher"):
            raise ValueError(f"direction {self.direction!r} of the figure '{self.name}': 'lower' or 'higher'")

    def value(self, row: Mapping[str, Any]) -> float:
        """Its value in a row.

        Raises:
            ValueError: the row has no such number.
        """
        if not isinstance(row.get(self.name), (int, float)):
            numbers = sorted(name for name, value in row.items() if isinstance(value, (int, float)))
            raise ValueError(
                f"'{self.name}', which chooses the best checkpoint, is no number of the validation row; it has "
                f"{', '.join(numbers)}"
            )
        return float(row[self.name])

    def is_better(self, value: float, best: float | None) -> bool:
        """Whether `value` is better than the best so far; None: there is none yet."""
        if best is None:
            return True
        return value < best if self.direction == "lower" else value > best


class Trainable(nn.Module, ABC):
    """A module that the trainer can train: a new one gives `forward` and `total_loss`, the rest has a default."""

    reducers: Mapping[str, Reducer] = {}
    """how each of its diagnostics becomes figures of a row"""
    best: Figure = Figure("total", "lower", "total validation loss")
    """which epoch's checkpoint is the best"""
    quiet_figures: frozenset[str] = frozenset()
    """figures of a row that are logged, and not printed at an epoch's end"""
    warm_start_key: str | None = None
    """the key of the configuration that `warm_start` obeys; None: it has nothing to do"""

    def __init__(self) -> None:
        super().__init__()
        self.register_state_dict_post_hook(_drop_aliases)

    @abstractmethod
    def forward(self, batch: Any, progress: float = 0.0) -> StepOutput:
        """Losses of a batch; `progress` is the share of the training that is done, 0 to 1."""

    @abstractmethod
    def total_loss(self, losses: Mapping[str, Any]) -> Any:
        """The loss to minimise, from each loss (unweighted).

        Args:
            losses: scalars by name, of a batch (tensors) or of a whole epoch (numbers).
        """

    def file_losses(self, outputs: Tensor, examples: Sequence[Any]) -> dict[str, Tensor]:
        """Losses of a validation file that depend on which examples are looked at together, and other figures of it.

        Each stands in the validation row under its name, where `best` may name it; what `total_loss` leaves out is no
        part of the loss.

        Args:
            outputs: [n, F] the `StepOutput.per_example` of the whole file, in its order.
            examples: the loader's data set, n examples.
        """
        return {}

    def warm_start(self) -> None:
        """Put values from elsewhere into a module that is trained from its start; `warm_start_key` asks for them.

        Called on every rank, and neither where a stopped run goes on nor where the start is another run's whole
        trained part. What it draws must be the same on all ranks.

        Raises:
            UserError: the values cannot be read, or do not fit.
        """

    def measure(self, batches: Any, distributed: "DistributedContext") -> None:
        """Fill in `statistics`, before the first step.

        Called on every rank, after `warm_start` and under the same conditions; all ranks must get the same values.

        Args:
            batches: this rank's training batches, a `BatchLoader` (models/task.py).
            distributed: the processes.

        Raises:
            UserError: the data do not give them.
        """

    @property
    def statistics(self) -> Mapping[str, Tensor]:
        """Buffers by name whose values the training data gave; kept with what is trained, in float32."""
        return {}

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """The optimiser's groups: every trainable parameter in one of them, each group with `lr` of its own.

        Args:
            learning_rate: the configuration's; a group without `lr` has it.
        """
        return [{"params": [parameter for parameter in self.parameters() if parameter.requires_grad]}]

    def warnings(self, row: Mapping[str, Any], what: str) -> list[str]:
        """Sentences about a row of a whole epoch that a user should not miss.

        Args:
            row: its figures.
            what: what the row is of, such as "the examples of valid epoch 1".
        """
        return []

    def learning_parts(self) -> dict[str, Sequence[nn.Parameter]]:
        """What must have a gradient in every epoch, by the words that a warning has for it: "the retriever"."""
        return {"what is trained": list(self.parameters())}

    def faults(self) -> dict[str, str]:
        """What is wrong with the trained values as they are: a sentence for each fault, by its name.

        Asked at the end of every epoch, on all ranks; a fault of one name is said once in a run.
        """
        return {}

    def describe(self) -> list[str]:
        """The first lines of a run: what is trained."""
        return [type(self).__name__]

    def metadata(self) -> dict[str, Any]:
        """What one must know of the model to use its trained part; plain values, for JSON.

        Called on a thread beside the training, as hashes of large files take long: no parameter may be touched.
        """
        return {}

    def trained_state(self) -> dict[str, Tensor]:
        """The trained parameters and the statistics by name, on the CPU; without what is partitioned over the ranks."""
        return {
            name: value.detach().cpu().contiguous()
            for name, value in self._kept().items()
            if not is_partitioned(value)
        }

    def _kept(self) -> dict[str, Tensor]:
        """What is kept of the module: the trained parameters, then the statistics."""
        trained = {name: value for name, value in self.named_parameters() if value.requires_grad}
        return {**trained, **self.statistics}

    def load_trained_state(self, state: Mapping[str, Tensor], source: str) -> None:
        """Take over trained parameters and statistics.

        Args:
            state: as `trained_state` gives it; more names are an error, and so are fewer.
            source: where it came from, for the message.

        Raises:
            UserError: a name or a shape does not fit this configuration.
        """
        own = self._kept()
        for name in sorted(own.keys() | state.keys()):
            if name not in state:
                raise UserError(
                    f"{source}: {shown(name)} is missing; the checkpoint is of another configuration"
                )
            if name not in own:
                raise UserError(f"{source}: {shown(name)} has no place in this configuration's model")
            wanted = whole_shape(own[name])
            if wanted != state[name].shape:
                raise UserError(
                    f"{source}: {shown(name)} has shape {list(state[name].shape)}, the configuration asks for "
                    f"{list(wanted)}"
                )
        with torch.no_grad():
            for name, value in own.items():
                with whole([value], changed=True):
                    value.copy_(state[name])

    def read_trained(self, run: Path) -> tuple[dict[str, Tensor], Path]:
        """What `save_trained` wrote to a run folder, and the file that it lies in.

        Raises:
            UserError: there is none, or it cannot be read.
        """
        return read_trained(run)

    def save_trained(self, folder: Path, state: dict[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Write the trained part to a run folder.

        Args:
            folder: the run folder.
            state: trained parameters and statistics by name, float32 on the CPU; at ZeRO stage 3 the module's own are
                not whole.
            metadata: what stands beside them.

        Raises:
            UserError: a file cannot be written; earlier ones are as they were.
        """
        write_trained(folder, state, metadata)


def _drop_aliases(module: nn.Module, state: dict[str, Tensor], prefix: str, _: object) -> None:
    """Leave second names of tied weights out of a checkpoint: DeepSpeed takes them for trained ones."""
    names = {name for name, _ in module.named_parameters()} | {name for name, _ in module.named_buffers()}
    for name in [name for name in state if name.removeprefix(prefix) not in names]:
        del state[name]
