"""A linear regression as a training task: no text, no language model, nothing of the project but what a task is."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

from models.task import Prepared, Task
from models.trainable import Figure, StepOutput, Trainable

NUM_EXAMPLES = 10
TARGET = 1.0
BEYOND = 1.2  # predictions above it are what the figure counts: more of them while the loss rises


class Settings(BaseModel):
    """All that the trainer reads of a configuration."""

    log_dir: str
    learning_rate: float = 0.4
    batch_size: int = 4
    num_epochs: int = 4
    seed: int = 1
    log_every: int = 2
    save_model: bool = True
    save_steps: int = 0
    deterministic: bool = False
    grad_clip: float = 0.0
    warmup_type: str | None = None


class Config(BaseModel):
    """A configuration of one section."""

    training: Settings


@dataclass(frozen=True)
class Points:
    """A batch of two streams: points [B, 3] with a target [B], and as many again with a loss of their own."""

    inputs: Tensor  # [B, 3]
    others: Tensor  # [2 * B, 3]
    indices: Tensor  # [B]

    @property
    def num_examples(self) -> int:
        """B."""
        return len(self.indices)

    def to(self, device: torch.device) -> "Points":
        """The same batch on another device."""
        return Points(**{name: tensor.to(device) for name, tensor in dataclasses.asdict(self).items()})


class Regression(Trainable):
    """Predicts TARGET from zero points, so that only the bias learns; the weights of the inputs have their own rate."""

    reducers = {"beyond": lambda total, count: {"beyond_share": total.item() / count, "each": [1.0, 2.0]}}
    best = Figure("beyond_share", "higher", "share of predictions beyond the target")
    quiet_figures = frozenset({"each"})

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.bias = nn.Parameter(torch.zeros(1))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)

    def forward(self, batch: Points, progress: float = 0.0) -> StepOutput:
        """Squared error of the first stream, absolute error of the second."""
        predictions = batch.inputs @ self.weight + self.bias  # [B]
        others = batch.others @ self.weight + self.bias  # [2 * B]
        losses = {"squared": (predictions - TARGET).pow(2).mean(), "absolute": (others - TARGET).abs().mean()}
        return StepOutput(
            total=self.total_loss(losses),
            losses=losses,
            counts={"squared": len(predictions), "absolute": len(others)},
            diagnostics={"beyond": (predictions > BEYOND).sum()},
        )

    def total_loss(self, losses: Mapping[str, Any]) -> Any:
        """The squared error and half of the other."""
        return losses["squared"] + 0.5 * losses["absolute"]

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """The weights at a hundredth of the rate; a group without parameters is none."""
        return [
            {"params": [self.bias]},
            {"params": [self.weight], "lr": learning_rate / 100},
            {"params": []},
        ]

    def warnings(self, row: Mapping[str, Any], what: str) -> list[str]:
        """When every prediction is beyond the target."""
        return [f"warning: {what} are all beyond"] if row["beyond_share"] == 1 else []

    def describe(self) -> list[str]:
        """One line."""
        return ["a regression on 3 inputs"]

    def metadata(self) -> dict[str, Any]:
        """Its size."""
        return {"inputs": 3}


class Order(Sampler[list[int]]):
    """Whole epochs in batches of 4, on one rank; notes the epochs that were asked for."""

    last_is_repeat = False

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.done = 0

    def set_epoch(self, epoch: int, done: Sequence[Sequence[int]] = ()) -> None:
        """Every epoch has the same order."""
        self.epochs.append(epoch)
        self.done = sum(batches for _, batches in done)

    def __len__(self) -> int:
        return math.ceil(NUM_EXAMPLES / 4) - self.done

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(4 * self.done, NUM_EXAMPLES, 4):
            yield list(range(start, min(start + 4, NUM_EXAMPLES)))


def _collate(points: list[tuple[Tensor, Tensor]]) -> Points:
    inputs = torch.stack([point for point, _ in points])
    return Points(inputs, inputs.repeat(2, 1), torch.stack([index for _, index in points]))


def regression_task(log_dir: str, module: type[Trainable] = Regression, **settings: Any) -> Task:
    """A task on 10 points in 3 batches; `settings` are keys of the section `training`."""
    points = TensorDataset(torch.eye(3).repeat(4, 1)[:NUM_EXAMPLES], torch.arange(NUM_EXAMPLES))
    loader = partial(DataLoader, points, collate_fn=_collate)
    return Task(
        config=Config(training=Settings(log_dir=log_dir, **settings)),
        prepare=lambda distributed: Prepared(
            module(), loader(batch_sampler=Order()), loader(batch_sampler=Order()), ["ten points"]
        ),
        notes=["made up"],
    )
