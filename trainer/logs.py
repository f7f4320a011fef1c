"""What a run writes about itself: metrics.jsonl and TensorBoard, each loss and each diagnostic apart."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from dataset.strict_json import parsed_line
from models.trainable import Reducer, StepOutput
from trainer.clock import STEP_PARTS
from trainer.progress import Sums
from utils.appending import cut_file, take_lock
from utils.distributed import DistributedContext
from utils.errors import UserError, first_line
from utils.files import flush_to_disk, json_line, write_errors
from utils.runs import METRICS
from utils.untrusted import LARGEST_LINE, check_link, check_plain

_NONE: Mapping[str, int] = {}
_RESERVED = {"phase", "step", "epoch", "lr", "examples_per_second"}  # what else stands in a row
_RESERVED |= {f"seconds_{part}" for part in STEP_PARTS}


@dataclass
class Tally:
    """Sums over batches, kept on the device: reading them is the only synchronisation.

    Each loss is weighted by the number of things that it is a mean over, so that its mean over an epoch does not
    depend on how the epoch was cut into batches. Diagnostics come as sums.

    Args:
        reducers: the module's, see `Trainable.reducers`.
    """

    reducers: Mapping[str, Reducer] = field(default_factory=dict)
    losses: dict[str, Tensor] = field(default_factory=dict)  # loss times count, summed
    counts: Counter[str] = field(default_factory=Counter)
    diagnostics: dict[str, Tensor] = field(default_factory=dict)
    examples: int = 0

    def add(self, output: StepOutput, num_examples: int) -> None:
        """Add one batch. With 0 examples (they were counted elsewhere) it adds nothing.

        Raises:
            ValueError: a diagnostic without a reducer.
        """
        for name, value in output.losses.items():
            count = output.counts[name] if num_examples else 0
            _add(self.losses, name, value.detach().double() * count)
            self.counts[name] += count
        for name, value in output.diagnostics.items():
            if name not in self.reducers:
                raise ValueError(f"the diagnostic '{name}' has no reducer: its module must declare one")
            _add(self.diagnostics, name, value.detach().double() * int(num_examples > 0))
        self.examples += num_examples

    def read(
        self,
        distributed: DistributedContext,
        total_loss: Callable[[Mapping[str, float]], float],
        file_losses: Mapping[str, float] | None = None,
    ) -> dict[str, Any]:
        """Means over all batches of all ranks.

        Args:
            distributed: the processes; all of them must call it.
            total_loss: the module's, see `Trainable.total_loss`.
            file_losses: losses of the whole file, which no batch has.

        Returns:
            A row: examples, total and each loss (0 for one that no batch had anything to take a mean over), and
            what the reducers make of the diagnostics: numbers, or lists of them.
        """
        device = next((value.device for value in self.losses.values()), distributed.device)
        losses, diagnostics = _complete((self.losses, self.diagnostics), distributed, device)
        counts = [float(self.examples), *(float(self.counts[name]) for name in losses)]
        sums = [*losses.values(), *diagnostics.values()]
        packed = torch.tensor(counts, device=device, dtype=torch.float64)
        packed = distributed.sum(torch.cat([packed, *(part.flatten() for part in sums)])).cpu()
        counts, *parts = packed.split([len(counts), *(part.numel() for part in sums)])
        examples, *counts = counts.tolist()
        means = {
            name: part.item() / max(1.0, count)
            for name, count, part in zip(losses, counts, parts, strict=False)
        }
        means |= file_losses or {}
        if not means:
            raise ValueError(
                "a module gives at least one loss by its name; `total` alone cannot be summed up"
            )
        row: dict[str, Any] = {"examples": int(examples), "total": float(total_loss(means))}
        found: list[tuple[str, dict[str, Any]]] = [(name, {name: mean}) for name, mean in means.items()]
        for name, part in zip(diagnostics, parts[len(losses) :], strict=True):
            figures = self.reducers[name](part.view(diagnostics[name].shape), int(examples))
            found.append((name, figures))
        for name, figures in found:
            if taken := sorted(figures.keys() & (row.keys() | _RESERVED)):
                raise ValueError(f"two figures of a row are called '{taken[0]}'; one is of '{name}'")
            row |= figures
        return row

    def saved(self, distributed: DistributedContext) -> Sums:
        """The sums of all ranks together; every rank must call it."""
        device = next((value.device for value in self.losses.values()), distributed.device)
        losses, diagnostics = _complete((self.losses, self.diagnostics), distributed, device)
        counts = [self.examples, *(self.counts[name] for name in losses)]
        examples, *counts = distributed.sum(torch.tensor(counts, dtype=torch.int64, device=device)).tolist()
        return Sums(
            examples=examples,
            losses={name: distributed.sum(value.clone()).item() for name, value in losses.items()},
            counts=dict(zip(losses, counts, strict=True)),
            diagnostics={
                name: distributed.sum(value.clone()).tolist() for name, value in diagnostics.items()
            },
        )

    def go_on(self, sums: Sums, distributed: DistributedContext) -> None:
        """Take over `saved` sums; the main process has them for all."""
        if not distributed.is_main:
            return
        make = partial(torch.tensor, dtype=torch.float64, device=distributed.device)
        self.examples, self.counts = sums.examples, Counter(sums.counts)
        self.losses = {name: make(value) for name, value in sums.losses.items()}
        try:
            self.diagnostics = {name: make(value) for name, value in sums.diagnostics.items()}
        except (ValueError, TypeError, RuntimeError, OverflowError) as error:
            raise UserError(
                f"a checkpoint's sums of diagnostics are no numbers: {first_line(error)}"
            ) from None


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    sums[name] = sums[name] + value if name in sums else value


def _complete(
    tables: Sequence[dict[str, Tensor]], distributed: DistributedContext, device: torch.device
) -> list[dict[str, Tensor]]:
    """Tables of sums by name, in one order on all ranks; zeros where only other ranks had anything to add."""
    shapes: list[dict[str, torch.Size]] = [{} for _ in tables]
    for theirs in distributed.gather([{name: sum_.shape for name, sum_ in sums.items()} for sums in tables]):
        shapes = [known | more for known, more in zip(shapes, theirs, strict=True)]
    return [
        {
            name: sums[name] if name in sums else torch.zeros(known[name], dtype=torch.float64, device=device)
            for name in sorted(known)
        }
        for sums, known in zip(tables, shapes, strict=True)
    ]


class RunLog:
    """metrics.jsonl and TensorBoard of one run; writes on the main process only.

    Args:
        folder: the run folder.
        distributed: the processes.
        lengths: of `lengths`, when the run was saved; empty: it never was. What was written later is cut off, as it
            comes again.

    Raises:
        UserError: from every method, when one of the files cannot be written; another process writes to them.
    """

    def __init__(
        self, folder: Path, distributed: DistributedContext, lengths: Mapping[str, int] = _NONE
    ) -> None:
        self.distributed, self.folder, self.path = distributed, folder, folder / METRICS
        self.file, self.board = None, None
        if distributed.is_main:
            for path in _log_files(folder) if lengths is not None else ():  # the run may be somebody else's
                check_link(check_plain(path), folder)
            with write_errors(self.path):
                self.file = self.path.open("a", encoding="utf-8")
            if not take_lock(self.file.fileno()):
                self.file.close()
                raise UserError(f"{folder}: another process is training here")
            _cut_to(folder, lengths)
            with write_errors(self.path):
                self.board = SummaryWriter(str(folder))

    def lengths(self) -> dict[str, int]:
        """Bytes of each file so far, all of them on the disk; on the main process."""
        if self.file is None or self.board is None:
            return {}
        with write_errors(self.path):
            self.file.flush()
            self.board.flush()
            paths = _log_files(self.folder)
            for path in paths:
                flush_to_disk(path)
            return {path.name: path.stat().st_size for path in paths}

    def write(self, phase: str, step: int, row: dict[str, Any], whole_epoch: bool = False) -> None:
        """One row.

        Args:
            phase: "train" or "valid".
            step: optimiser steps so far.
            row: from `Tally.read`, with whatever else belongs to it.
            whole_epoch: the row sums up an epoch.
        """
        if self.file is None or self.board is None:
            return
        kind = f"{phase}_epoch" if whole_epoch else phase
        with write_errors(self.path):
            self.file.write(json_line({"phase": kind, "step": step, **row}))
            self.file.flush()
            self._draw(self.board, kind, f"total_{phase}" if whole_epoch else phase, step, row)

    def add(self, phase: str, step: int, row: dict[str, Any]) -> None:
        """One row that is no curve: for metrics.jsonl alone."""
        if self.file is not None:
            with write_errors(self.path):
                self.file.write(json_line({"phase": phase, "step": step, **row}))
                self.file.flush()

    def rows(self, phase: str) -> list[dict[str, Any]]:
        """The rows of a phase that the file has, on the main process; [] on the others.

        Raises:
            UserError: one of them is no row.
        """
        if self.file is None:
            return []
        found, start = [], f'{{"phase": "{phase}"'.encode()
        with self.path.open("rb") as file:
            for number, line in enumerate(iter(partial(file.readline, LARGEST_LINE), b""), start=1):
                if line.startswith(start):  # most rows are of other phases, and need not be parsed
                    found.append(parsed_line(line, f"{self.path}:{number}"))
        return found

    def _draw(self, board: SummaryWriter, kind: str, released: str, step: int, row: dict[str, Any]) -> None:
        # the release's names for the total loss, so that old and new runs share a plot
        board.add_scalar(f"Loss-{self.distributed.rank}/{released}", row["total"], step)
        for name, value in row.items():
            if isinstance(value, list):
                for index, item in enumerate(value):
                    board.add_scalar(f"{name}/{kind}/{index}", item, step)
            elif isinstance(value, float):
                board.add_scalar(f"{name}/{kind}", value, step)

    def close(self) -> None:
        """Flush and close."""
        if self.file is not None and self.board is not None:
            with write_errors(self.path):
                self.file.close()
                self.board.close()


def _log_files(folder: Path) -> list[Path]:
    return [folder / METRICS, *sorted(folder.glob("events.out.tfevents.*"))]


def _cut_to(folder: Path, lengths: Mapping[str, int]) -> None:
    """Cut each file that is appended to, and remove those that were begun later."""
    for path in _log_files(folder):
        with write_errors(path):
            if path.name in lengths or path.name == METRICS:
                cut_file(path, lengths.get(path.name, 0))
            else:
                path.unlink()
