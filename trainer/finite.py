"""Losses and gradients that are not finite: of which step and which examples, and what was kept before.

What is looked at stays on the device until a report reads it, so that no step waits for the device.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import deepspeed
import torch
from torch import Tensor

from models.trainable import StepOutput
from trainer.checkpoints import ADVICE, last_good
from utils.distributed import DistributedContext
from utils.errors import UserError

_MOST_STEPS = 1000  # batches that are noted before those with finite losses are dropped
_SHOWN = 16  # examples of a message


class _Noted(NamedTuple):
    """One batch of this rank."""

    step: int
    indices: Sequence[int] | Tensor
    losses: Mapping[str, Tensor]  # scalars, detached


@dataclass
class FiniteCheck:
    """Finds the first batch whose loss is not finite, and the first step whose gradient is not.

    Args:
        engine: the engine whose batches they are.
        distributed: the processes.
        folder: the run folder, whose last checkpoint a message names.
        dataset: of the batches; where it can `locate` examples, a message says where they stand.
        what: what the examples are of.
    """

    engine: deepspeed.DeepSpeedEngine
    distributed: DistributedContext
    folder: Path
    dataset: Any
    what: str = "training"

    def __post_init__(self) -> None:
        # without a stage of ZeRO nothing else looks at the gradients
        is_plain = not hasattr(self.engine.optimizer, "_global_grad_norm")
        parameters = self.engine.module.parameters() if is_plain else ()
        self._unchecked = [parameter for parameter in parameters if parameter.requires_grad]
        self._noted: list[_Noted] = []
        self._norms: list[tuple[int, Tensor]] = []

    def note(self, step: int, batch: Any, output: StepOutput) -> None:
        """A batch of this rank, in the step that it belongs to, counted from 1; the batch may lie on any device."""
        losses = {"total": output.total, **output.losses}
        detached = {name: loss.detach() for name, loss in losses.items()}
        self._noted.append(_Noted(step, getattr(batch, "indices", ()), detached))
        if len(self._noted) >= _MOST_STEPS:
            # the first one with a loss that is not finite is all that a message needs
            self._noted, self._norms = self._bad_batches()[:1], self._bad_norms()[:1]

    def update(self, step: int) -> None:
        """Let the engine make the update of a step.

        ZeRO reads the norm of the gradient itself, and leaves out an update whose gradient is not finite. In float16
        that is how the loss scale is found; in a wider precision nothing would be said of it.

        Raises:
            UserError: the gradient is not finite, and the precision is not float16. On a GPU a report finds that where
                there is no ZeRO.
        """
        gradients = [parameter.grad for parameter in self._unchecked if parameter.grad is not None]
        if gradients:
            self._check_norm(step, torch.nn.utils.get_total_norm(gradients))
        skipped = self.engine.skipped_steps
        self.engine.step()
        if self.engine.fp16_enabled():
            return
        if self.engine.skipped_steps > skipped:
            self._stop_at_gradient(step)
        norm = getattr(self.engine.optimizer, "_global_grad_norm", None)
        if isinstance(norm, Tensor):
            self._check_norm(step, norm)

    def report(self, row: Mapping[str, Any] | None = None) -> None:
        """Look through what was noted since the last time; every rank must call it with the same row.

        Args:
            row: figures of these batches, of all ranks. None: there are none, and the ranks ask each other.

        Raises:
            UserError: something is not finite: figures, losses or gradients.
        """
        gradients = self._bad_norms()
        if gradients:  # a gradient is the same on all ranks
            self._stop_at_gradient(gradients[0][0])
        figures = [] if row is None else not_finite(row)
        losses = self._bad_batches() if figures or row is None else []
        if figures or (row is None and any(self.distributed.gather(bool(losses)))):
            self._stop_at_losses(figures, losses)
        self._noted.clear()
        self._norms.clear()

    def _check_norm(self, step: int, norm: Tensor) -> None:
        if norm.device.type != "cpu":
            self._norms.append((step, norm.detach()))
        elif not _is_norm(float(norm)):
            self._stop_at_gradient(step)

    def _bad_norms(self) -> list[tuple[int, Tensor]]:
        if not self._norms:
            return []
        values = torch.stack([norm.float().reshape(()) for _, norm in self._norms]).tolist()
        return [noted for noted, value in zip(self._norms, values, strict=True) if not _is_norm(value)]

    def _bad_batches(self) -> list[_Noted]:
        if not self._noted:
            return []
        # one tensor for all of them, as reading each would wait for the device each time
        values = [loss.float().reshape(()) for noted in self._noted for loss in noted.losses.values()]
        finite = torch.stack(values).isfinite().cpu().split([len(noted.losses) for noted in self._noted])
        return [noted for noted, good in zip(self._noted, finite, strict=True) if not bool(good.all())]

    def _stop_at_losses(self, figures: Sequence[str], losses: Sequence[_Noted]) -> NoReturn:
        """Of all ranks the first step that has a bad batch, with the examples of its bad batches."""
        mine = [(noted.step, _names(noted), _numbers(noted.indices)) for noted in losses]
        found = [item for items in self.distributed.gather(mine) for item in items]
        first = min((step for step, _, _ in found), default=None)
        found = [item for item in found if item[0] == first]
        names = list(dict.fromkeys([*(name for _, bad, _ in found for name in bad), *figures]))
        where = f"step {first}" if first is not None else f"a step up to {self._noted[-1].step}"
        self._stop(where, f"{', '.join(names)}", [number for _, _, numbers in found for number in numbers])

    def _stop_at_gradient(self, step: int) -> NoReturn:
        """All ranks are here: a gradient is the mean over all of their batches."""
        bad = [noted for noted in self._bad_batches() if noted.step == step]
        if any(self.distributed.gather(bool(bad))):
            self._stop_at_losses([], bad)
        mine = [number for noted in self._noted if noted.step == step for number in _numbers(noted.indices)]
        numbers = [number for numbers in self.distributed.gather(mine) for number in numbers]
        self._stop(f"step {step}", "the gradient", numbers)

    def _stop(self, where: str, what: str, numbers: Sequence[int]) -> NoReturn:
        raise UserError(
            f"{where}: {what} is not a finite number{self._examples(numbers)}; {last_good(self.folder)}. {ADVICE}"
        )

    def _examples(self, numbers: Sequence[int]) -> str:
        """`, in a batch with the training examples 3, 8 (counted from 0; lines 12, 40 of FILE)`."""
        if not numbers:
            return ""
        some, locate = list(numbers[:_SHOWN]), getattr(self.dataset, "locate", None)
        try:
            places = locate(some) if locate and self.distributed.is_main else []
        except (UserError, OSError, IndexError):  # the file may have gone; this message matters more
            places = []
        more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
        return (
            f", in a batch with the {self.what} examples {', '.join(map(str, some))}{more} (counted from 0"
            f"{_lines(places)})"
        )


def _lines(places: Sequence[str]) -> str:
    """`; lines 12, 40 of FILE`, of places FILE:LINE."""
    if not places:
        return ""
    files, lines = zip(*(place.rpartition(":")[::2] for place in places), strict=True)
    if len(set(files)) > 1:
        return f"; at {', '.join(places)}"
    return f"; lines {', '.join(lines)} of {files[0]}"


def not_finite(row: Mapping[str, Any]) -> list[str]:
    """The names of figures that are not finite numbers, or lists with one that is not."""
    return [
        name
        for name, value in row.items()
        if not all(math.isfinite(item) for item in (value if isinstance(value, list) else [value]))
    ]


def _is_norm(value: float) -> bool:
    return math.isfinite(value) and value >= 0  # DeepSpeed writes a negative one for what is not finite


def _names(noted: _Noted) -> list[str]:
    return [name for name, loss in noted.losses.items() if not bool(loss.isfinite())]


def _numbers(indices: Sequence[int] | Tensor) -> list[int]:
    return indices.tolist() if isinstance(indices, Tensor) else list(indices)
