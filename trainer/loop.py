"""The training loop: epochs, steps, validation, checkpoints, logs. Knows nothing of text or of losses' meaning."""

import math
import time
from pathlib import Path
from typing import Any

import deepspeed
from torch.utils.data import DataLoader
from tqdm import tqdm

from models.settings import OptimisationSettings
from trainer.checkpoints import save_checkpoint, save_trained
from trainer.logs import RunLog, Tally, dominance_warning
from trainer.validation import validate
from utils.distributed import DistributedContext
from utils.errors import UserError

BEST_BY = "total validation loss"  # what the checkpoint `best` is chosen by


class Trainer:
    """Trains an engine on batches; keeps the checkpoint with the best validation loss.

    Args:
        engine: a DeepSpeed engine around a model whose forward gives a `StepOutput`.
        settings: the training section.
        distributed: the processes.
        folder: the run folder.
        train: training batches; their sampler has `set_epoch`.
        valid: validation batches; each example once over all ranks.
        metadata: what stands beside the trained part.
    """

    def __init__(
        self,
        engine: deepspeed.DeepSpeedEngine,
        settings: OptimisationSettings,
        distributed: DistributedContext,
        folder: Path,
        train: DataLoader,
        valid: DataLoader,
        metadata: dict[str, Any],
    ) -> None:
        self.engine, self.settings, self.distributed, self.folder = engine, settings, distributed, folder
        self.train_loader, self.valid_loader, self.metadata = train, valid, metadata
        self.log = RunLog(folder, distributed)
        self.steps = 0
        self.best = math.inf

    def fit(self) -> float:
        """Train all epochs.

        Returns:
            The best total validation loss (`total_loss` of the model).

        Raises:
            UserError: a loss is not a number.
        """
        try:
            for epoch in range(self.settings.num_epochs):
                self._epoch(epoch)
                loss = self._validate(epoch)
                if self.settings.save_model:
                    self._keep(loss)
                self.best = min(self.best, loss)
        finally:
            self.log.close()
        return self.best

    def _epoch(self, epoch: int) -> None:
        self.engine.train()
        self.train_loader.batch_sampler.set_epoch(epoch)
        batches, accumulation = len(self.train_loader), self.engine.gradient_accumulation_steps()
        whole, recent = Tally(), Tally()
        started = time.perf_counter()
        with self._bar(self.train_loader, f"epoch {epoch + 1}/{self.settings.num_epochs}") as bar:
            for number, batch in enumerate(self.train_loader):
                progress = (epoch + number / batches) / self.settings.num_epochs
                # the batches of this optimiser step; the epoch's last step may have fewer
                first = number - number % accumulation
                in_step = min(accumulation, batches - first)
                steps = number + 1 == first + in_step
                self.engine.set_gradient_accumulation_boundary(steps)
                output = self.engine(batch.to(self.distributed.device), progress)
                self.engine.backward(output.total / in_step, scale_wrt_gas=False)
                rate = self._learning_rate()
                self.engine.step()
                self.steps = self.engine.global_steps
                whole.add(output, batch.num_examples)
                recent.add(output, batch.num_examples)
                bar.update(batch.num_examples * self.distributed.size)
                step_of_epoch = number // accumulation + 1
                if steps and (step_of_epoch % self.settings.log_every == 0 or number + 1 == batches):
                    started = self._report("train", recent, bar, started, epoch, rate)
                    recent = Tally()
        self._stop_without_updates()
        row = whole.read(self.distributed, self.engine.module.total_loss)
        self.log.write("train", self.steps, {"epoch": epoch, **row}, whole_epoch=True)
        self._say_epoch("train", epoch, row)

    def _learning_rate(self) -> float:
        """What the next update is made with."""
        return float(self.engine.optimizer.param_groups[0]["lr"])

    def _report(self, phase: str, tally: Tally, bar: tqdm, started: float, epoch: int, rate: float) -> float:
        """Read what was summed up since the last report; returns the new start of the clock."""
        row = tally.read(self.distributed, self.engine.module.total_loss)
        now = time.perf_counter()
        row["examples_per_second"] = row["examples"] / max(now - started, 1e-9)
        row["lr"] = rate
        bar.set_postfix_str(f"loss {row['total']:.4f}")
        self._stop_at_nan(row)
        self.log.write(phase, self.steps, {"epoch": epoch, **row})
        return now

    def _validate(self, epoch: int) -> float:
        with self._bar(self.valid_loader, "validation") as bar:
            row = validate(self.engine, self.valid_loader, self.distributed, bar.update)
        self._stop_at_nan(row)
        self.log.write("valid", self.steps, {"epoch": epoch, **row}, whole_epoch=True)
        self._say_epoch("valid", epoch, row)
        return row["total"]

    def _keep(self, loss: float) -> None:
        metadata = {**self.metadata, "best_by": BEST_BY, "validation_loss": loss, "steps": self.steps}
        if loss < self.best:
            # first what is small and needed most: a disk that fills up leaves it
            save_trained(self.engine.module, self.folder, self.distributed, metadata)
            save_checkpoint(self.engine, self.folder, "best", self.distributed)
        save_checkpoint(self.engine, self.folder, "last", self.distributed)

    def _stop_at_nan(self, row: dict[str, Any]) -> None:
        bad = [name for name, value in row.items() if isinstance(value, float) and not math.isfinite(value)]
        if bad:
            raise UserError(
                f"step {self.steps}: {', '.join(bad)} is not a finite number; checkpoints kept so far are "
                f"untouched in {self.folder}. Try a lower --lr, --grad_clip=1, or model.load_bit 32 or bf16"
            )

    def _stop_without_updates(self) -> None:
        """In float16 an update whose gradients are not finite is skipped, and the loss scale halved."""
        if 0 < self.steps <= self.engine.skipped_steps:
            raise UserError(
                f"all {self.steps} updates were skipped: their gradients are not finite in float16. Try a lower --lr, "
                "or model.load_bit 32 or bf16"
            )

    def _say_epoch(self, phase: str, epoch: int, row: dict[str, Any]) -> None:
        figures = "  ".join(f"{name} {value:.4f}" for name, value in row.items() if isinstance(value, float))
        shares = " ".join(f"{100 * share:.0f}%" for share in row.get("prompt_share", []))
        self.distributed.say(
            f"{phase} epoch {epoch + 1}: {figures}" + (f"  prompts {shares}" if shares else "")
        )
        warning = dominance_warning(row, f"the examples of {phase} epoch {epoch + 1}")
        if warning:
            self.distributed.say(warning)

    def _bar(self, loader: DataLoader, title: str) -> tqdm:
        total = len(getattr(loader.dataset, "examples", []))
        return tqdm(total=total, desc=title, unit="ex", disable=not self.distributed.is_main, mininterval=0.5)
