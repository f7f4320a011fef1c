"""The training loop: epochs, steps, validation, checkpoints, logs."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import deepspeed
from tqdm import tqdm

from models.settings import OptimisationSettings
from models.task import BatchLoader
from models.trainable import Trainable
from trainer.checkpoints import save_checkpoint, save_trained
from trainer.clock import Clock, as_figures, in_words
from trainer.faults import Faults
from trainer.finite import FiniteCheck, check_trained
from trainer.logs import RunLog, Tally
from trainer.validation import validate
from utils.background import Later
from utils.distributed import DistributedContext
from utils.errors import UserError


class Trainer:
    """Trains an engine on batches; keeps the checkpoint that is best by the module's own figure.

    Args:
        engine: a DeepSpeed engine around a `Trainable`.
        settings: the training section.
        distributed: the processes.
        folder: the run folder.
        train: training batches.
        valid: validation batches; each example once over all ranks.
        metadata: what stands beside the trained part; asked for when that is written.
    """

    def __init__(
        self,
        engine: deepspeed.DeepSpeedEngine,
        settings: OptimisationSettings,
        distributed: DistributedContext,
        folder: Path,
        train: BatchLoader,
        valid: BatchLoader,
        metadata: Later[dict[str, Any]],
    ) -> None:
        self.engine, self.settings, self.distributed, self.folder = engine, settings, distributed, folder
        self.module: Trainable = engine.module
        self.train_loader, self.valid_loader, self.metadata = train, valid, metadata
        self.log = RunLog(folder, distributed)
        self.clock = Clock(distributed.device)
        self.finite = FiniteCheck(engine, distributed, folder, train.dataset)
        self.faults = Faults(self.module, distributed, self.log)
        self.steps = 0
        self.best: float | None = None

    def fit(self) -> float:
        """Train all epochs.

        Returns:
            The best value of the figure that the module names.

        Raises:
            UserError: a loss is not a number.
        """
        try:
            for epoch in range(self.settings.num_epochs):
                self._epoch(epoch)
                row = self._validate(epoch)
                value = self.module.best.value(row)
                is_best = self.module.best.is_better(value, self.best)
                if self.settings.save_model:
                    self._keep(row, value, is_best)
                    self.clock.mark("saving")
                self._say_seconds(epoch)
                self.best = value if is_best else self.best
        finally:
            self.log.close()
        if self.best is None:
            raise ValueError("no epoch was trained: training.num_epochs must be at least 1")
        return self.best

    def _epoch(self, epoch: int) -> None:
        self.engine.train()
        self.train_loader.batch_sampler.set_epoch(epoch)
        batches, accumulation = len(self.train_loader), self.engine.gradient_accumulation_steps()
        whole, recent = Tally(self.module.reducers), Tally(self.module.reducers)
        self.faults.begin_epoch(self.steps)
        self.clock.restart()
        started = time.perf_counter()
        with self._bar(self.train_loader, f"epoch {epoch + 1}/{self.settings.num_epochs}") as bar:
            for number, batch in enumerate(self.train_loader):
                self.clock.mark("data")
                progress = (epoch + number / batches) / self.settings.num_epochs
                # the batches of this optimiser step; the epoch's last step may have fewer
                first = number - number % accumulation
                in_step = min(accumulation, batches - first)
                is_update = number + 1 == first + in_step
                self.engine.set_gradient_accumulation_boundary(is_update)
                output = self.engine(batch.to(self.distributed.device), progress)
                self.finite.note(self.steps + 1, batch, output)
                self.clock.mark("forward")
                self.engine.backward(output.total / in_step, scale_wrt_gas=False)
                self.clock.mark("backward")
                rates = self._learning_rates()
                self.finite.update(self.steps + 1)
                self.steps = self.engine.global_steps
                self.clock.mark("update")
                whole.add(output, batch.num_examples)
                recent.add(output, batch.num_examples)
                bar.update(batch.num_examples * self.distributed.size)
                step_of_epoch = number // accumulation + 1
                if is_update and (step_of_epoch % self.settings.log_every == 0 or number + 1 == batches):
                    started = self._report(recent, bar, started, epoch, rates)
                    recent = Tally(self.module.reducers)
                self.clock.mark("logging")
        self._stop_without_updates()
        row = whole.read(self.distributed, self.module.total_loss)
        self.log.write("train", self.steps, {"epoch": epoch, **row}, whole_epoch=True)
        self._say_epoch("train", epoch, row)
        self.faults.end_epoch(epoch, self.steps)
        self.clock.mark("logging")

    def _learning_rates(self) -> float | list[float]:
        """What the next update is made with; a list where there are several groups of parameters."""
        rates = [float(group["lr"]) for group in self.engine.optimizer.param_groups]
        return rates[0] if len(rates) == 1 else rates

    def _report(
        self,
        tally: Tally,
        bar: "tqdm[Any]",
        started: float,
        epoch: int,
        rates: float | list[float],
    ) -> float:
        """Read what was summed up since the last report; returns the new start of the clock."""
        row = tally.read(self.distributed, self.module.total_loss)
        now = time.perf_counter()
        row["examples_per_second"] = row["examples"] / max(now - started, 1e-9)
        row["lr"] = rates
        bar.set_postfix_str(f"loss {row['total']:.4f}")
        self.finite.report(row)
        self.faults.read_gradients()
        self.log.write("train", self.steps, {"epoch": epoch, **row, **self.clock.figures()})
        return now

    def _validate(self, epoch: int) -> dict[str, Any]:
        finite = FiniteCheck(
            self.engine, self.distributed, self.folder, self.valid_loader.dataset, "validation"
        )
        with self._bar(self.valid_loader, "validation") as bar:
            note = partial(finite.note, self.steps)
            row = validate(self.engine, self.valid_loader, self.distributed, bar.update, note)
        finite.report(row)
        self.log.write("valid", self.steps, {"epoch": epoch, **row}, whole_epoch=True)
        self._say_epoch("valid", epoch, row)
        self.clock.mark("validation")
        return row

    def _keep(self, row: dict[str, Any], value: float, is_best: bool) -> None:
        check_trained(self.engine, self.folder, self.distributed, self.steps)
        best = self.module.best
        metadata = {**self.metadata.result(), "best_by": best.words, "validation_loss": row["total"]}
        if best.name != "total":
            metadata["best_value"] = value
        metadata["steps"] = self.steps
        if is_best:
            # first what is small and needed most: a disk that fills up leaves it
            save_trained(self.module, self.folder, self.distributed, metadata)
            save_checkpoint(self.engine, self.folder, "best", self.distributed)
        save_checkpoint(self.engine, self.folder, "last", self.distributed)

    def _stop_without_updates(self) -> None:
        """In float16 an update whose gradients are not finite is skipped, and the loss scale halved."""
        if 0 < self.steps <= self.engine.skipped_steps:
            raise UserError(
                f"all {self.steps} updates were skipped: their gradients are not finite in float16. Try a lower --lr, "
                "or float32 or bfloat16"
            )

    def _say_epoch(self, phase: str, epoch: int, row: dict[str, Any]) -> None:
        figures = "  ".join(
            f"{name} {' '.join(f'{item:.4f}' for item in _numbers(value))}"
            for name, value in row.items()
            if not isinstance(value, int)
        )
        self.distributed.say(f"{phase} epoch {epoch + 1}: {figures}")
        for warning in self.module.warnings(row, f"the examples of {phase} epoch {epoch + 1}"):
            self.distributed.say(warning)
            self.log.add("warning", self.steps, {"epoch": epoch, "warning": warning})

    def _say_seconds(self, epoch: int) -> None:
        """Where the time of an epoch went, on the main process."""
        seconds = self.clock.end_epoch()
        self.distributed.say(f"epoch {epoch + 1}, {in_words(seconds)}")
        self.log.add("seconds", self.steps, {"epoch": epoch, **as_figures(seconds)})

    def _bar(self, loader: BatchLoader, title: str) -> "tqdm[Any]":
        return tqdm(
            total=len(loader.dataset),
            desc=title,
            unit="ex",
            disable=not self.distributed.is_main,
            mininterval=0.5,
        )


def _numbers(value: Any) -> list[float]:
    """The numbers of a figure, which is one or a list."""
    return value if isinstance(value, list) else [value]
