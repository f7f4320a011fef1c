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
from trainer.finite import FiniteCheck
from trainer.logs import RunLog, Tally
from trainer.moments import updates
from trainer.progress import Progress
from trainer.resume import Resumed, loss_scale
from trainer.stopping import StopRequest
from trainer.validation import validate
from utils.background import Later
from utils.distributed import DistributedContext
from utils.errors import Terminated, UserError


class _Stopped(Exception):
    """All ranks are to stop here."""


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
        total_steps: optimiser steps of the whole training.
        resumed: the checkpoint that the engine has been given, to go on from it.
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
        total_steps: int = 0,
        resumed: Resumed | None = None,
    ) -> None:
        self.engine, self.settings, self.distributed, self.folder = engine, settings, distributed, folder
        self.module: Trainable = engine.module
        self.train_loader, self.valid_loader, self.metadata = train, valid, metadata
        self.total_steps, self.resumed = total_steps, resumed
        # of the schedule, before the first update of this process
        self.scheduled = resumed.scheduled(total_steps) if resumed else 0
        progress = resumed.progress if resumed else Progress()
        self.steps, self.best, self.kept = progress.steps, progress.best, progress.steps if resumed else None
        self.epoch, self.done = progress.epoch, progress.done
        self.updates_before = progress.steps - progress.skipped
        self.whole, self.recent = Tally(self.module.reducers), Tally(self.module.reducers)
        self.whole.go_on(progress.epoch_sums, distributed)
        self.recent.go_on(progress.recent_sums, distributed)
        self.log = RunLog(folder, distributed, progress.logs)
        self.stop = StopRequest(distributed)
        self.clock = Clock(distributed.device, progress.seconds)
        self.finite = FiniteCheck(engine, distributed, folder, train.dataset)
        self.faults = Faults(self.module, distributed, self.log)

    def fit(self) -> float:
        """Train all epochs.

        Returns:
            The best value of the figure that the module names.

        Raises:
            UserError: a loss is not a number.
            Terminated: by SIGTERM; what was done is kept.
        """
        try:
            with self.stop:  # the save, too: a launcher may send a second SIGTERM
                try:
                    while self.epoch < self.settings.num_epochs:
                        self._train_epoch()
                        self._end_epoch(self._validate(self.epoch))
                except _Stopped:
                    self._save()
                    # one line for all of them
                    raise Terminated(*(self._kept_words() if self.distributed.is_main else ())) from None
            self.distributed.say(f"after the last epoch, {in_words(self.clock.end_epoch())}")
        except KeyboardInterrupt as stop:  # on every rank: the others may end by what the first one says
            stop.args = self._kept_words()
            raise
        finally:
            self.log.close()
        if self.best is None:
            raise ValueError("no epoch was trained: training.num_epochs must be at least 1")
        return self.best

    def _train_epoch(self) -> None:
        """The batches of the epoch that are left; none where it was stopped in its validation."""
        self.engine.train()
        self.clock.restart()
        self.train_loader.batch_sampler.set_epoch(self.epoch, self.done)
        before, begun = self.done, sum(count for _, count in self.done)
        batches, accumulation = begun + len(self.train_loader), self.engine.gradient_accumulation_steps()
        if begun == batches:
            return
        iterator = iter(self.train_loader)
        if self.resumed:  # what draws random numbers on the way to the first step has drawn them before
            self.resumed.restore_random_state(self.distributed)
            self.resumed = None
        self.faults.begin_epoch(self.steps)
        started = time.perf_counter()
        with self._bar(self.train_loader, f"epoch {self.epoch + 1}/{self.settings.num_epochs}") as bar:
            for number, batch in enumerate(iterator, start=begun):
                self.clock.mark("data")
                progress = (self.epoch + number / batches) / self.settings.num_epochs
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
                self.whole.add(output, batch.num_examples)
                self.recent.add(output, batch.num_examples)
                bar.update(batch.num_examples * self.distributed.size)
                step_of_epoch = number // accumulation + 1
                if is_update and (step_of_epoch % self.settings.log_every == 0 or number + 1 == batches):
                    started = self._report(bar, started, rates)
                self.clock.mark("logging")
                if is_update and number + 1 < batches:
                    self.done = (*before, (self.distributed.size, number + 1 - begun))
                    self._save_if_due()
        self._stop_without_updates()
        row = self.whole.read(self.distributed, self.module.total_loss)
        self.log.write("train", self.steps, {"epoch": self.epoch, **row}, whole_epoch=True)
        self._say_epoch("train", self.epoch, row)
        self.faults.end_epoch(self.epoch, self.steps)
        self.clock.mark("logging")
        self.done = (*before, (self.distributed.size, batches - begun))
        self._save_if_due()

    def _save_if_due(self) -> None:
        """After an optimiser step."""
        if self.stop.agreed():
            raise _Stopped
        if self.settings.save_steps and self.steps % self.settings.save_steps == 0:
            self._save()

    def _learning_rates(self) -> float | list[float]:
        """What the next update is made with; a list where there are several groups of parameters."""
        rates = [float(group["lr"]) for group in self.engine.optimizer.param_groups]
        return rates[0] if len(rates) == 1 else rates

    def _report(
        self,
        bar: "tqdm[Any]",
        started: float,
        rates: float | list[float],
    ) -> float:
        """Read what was summed up since the last report; returns the new start of the clock."""
        row = self.recent.read(self.distributed, self.module.total_loss)
        self.recent = Tally(self.module.reducers)
        now = time.perf_counter()
        row["examples_per_second"] = row["examples"] / max(now - started, 1e-9)
        row["lr"] = rates
        bar.set_postfix_str(f"loss {row['total']:.4f}")
        self.finite.report(row)
        self.faults.read_gradients()
        self.log.write("train", self.steps, {"epoch": self.epoch, **row, **self.clock.figures()})
        return now

    def _validate(self, epoch: int) -> dict[str, Any]:
        dataset = self.valid_loader.dataset
        finite = FiniteCheck(self.engine, self.distributed, self.folder, dataset, "validation")
        with self._bar(self.valid_loader, "validation") as bar:

            def advance(examples: int) -> None:
                bar.update(examples)
                if self.stop.agreed():
                    raise _Stopped

            note = partial(finite.note, self.steps)
            row = validate(self.engine, self.valid_loader, self.distributed, advance, note)
        finite.report(row)
        self.log.write("valid", self.steps, {"epoch": epoch, **row}, whole_epoch=True)
        self._say_epoch("valid", epoch, row)
        self.clock.mark("validation")
        return row

    def _end_epoch(self, row: dict[str, Any]) -> None:
        """Keep what the epoch has brought."""
        figure = self.module.best
        value = figure.value(row)
        is_best = figure.is_better(value, self.best)
        self.best = value if is_best else self.best
        if is_best and self.settings.save_model:
            metadata = {**self.metadata.result(), "best_by": figure.words, "validation_loss": row["total"]}
            if figure.name != "total":
                metadata["best_value"] = value
            # first what is small and needed most: a disk that fills up leaves it
            save_trained(self.module, self.folder, self.distributed, {**metadata, "steps": self.steps})
            self.clock.mark("saving")
        # before the checkpoint, which goes on with the logs as they are then: its time is the next epoch's
        seconds = self.clock.end_epoch()
        self.distributed.say(f"epoch {self.epoch + 1}, {in_words(seconds)}")
        self.log.add("seconds", self.steps, {"epoch": self.epoch, **as_figures(seconds)})
        self.epoch, self.done, self.whole = self.epoch + 1, (), Tally(self.module.reducers)
        self._save(is_best)

    def _save(self, is_best: bool = False) -> None:
        """A checkpoint of this moment, between two steps or after a validation."""
        if not self.settings.save_model:
            return
        self.finite.report()
        known = self.distributed.share(self.metadata.result())
        updates_made = self.steps - self.engine.skipped_steps
        progress = Progress(
            epoch=self.epoch,
            done=self.done,
            steps=self.steps,
            skipped=self.engine.skipped_steps,
            samples=self.engine.global_samples,
            micro_steps=self.engine.micro_steps,
            total_steps=self.total_steps,
            # where the number of ranks has changed, the steps before were of another size than the schedule's
            scheduled=min(self.scheduled + updates_made - self.updates_before, self.total_steps),
            best=self.best,
            updates=updates(self.engine),
            loss_scale=loss_scale(self.engine),
            epoch_sums=self.whole.saved(self.distributed),
            recent_sums=self.recent.saved(self.distributed),
            seconds=self.clock.so_far(),
            logs=self.distributed.share(self.log.lengths()),
            ranks=self.distributed.size,
            accumulation_steps=self.engine.gradient_accumulation_steps(),
            files={key: value for key, value in known.items() if key.endswith("_sha256")},
        )
        save_checkpoint(self.engine, self.folder, progress, self.distributed, is_best)
        self.kept = self.steps
        self.clock.mark("saving")

    def _kept_words(self) -> tuple[str, ...]:
        """What is kept, and how to go on."""
        if not self.settings.save_model:
            return ("nothing is kept, as training.save_model is off",)
        kept = "nothing is kept yet" if self.kept is None else f"step {self.kept} is kept"
        return (f"{kept}; go on with --resume={self.folder}",)

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
            if not isinstance(value, int) and name not in self.module.quiet_figures
        )
        self.distributed.say(f"{phase} epoch {epoch + 1}: {figures}")
        for warning in self.module.warnings(row, f"the examples of {phase} epoch {epoch + 1}"):
            self.distributed.say(warning)
            self.log.add("warning", self.steps, {"epoch": epoch, "warning": warning})

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
