"""What a training will take, before it is started: steps, memory, time and disk; of any configuration's checks.

No engine is started. Where the model is here, a few real steps are timed: forward, backward and Adam on batches of the
training file. Where it is not, or a step would take too long, the time follows from the arithmetic and a measured rate.
"""

import random
import time
from collections.abc import Generator, Iterator
from typing import Any

import torch

from models.checkup import Checkup
from models.cost import StepSizes, measured_activations, step_bytes, step_flops
from trainer.ds_config import zero_stage
from trainer.engine import total_steps
from utils.findings import Finding, duration, size
from utils.resources import available_memory, disk_finding, peak_memory, restart_peak

_BUDGET = 12.0  # seconds of timed steps
_LONGEST_STEP = 20.0  # seconds; a step that is expected to take longer is not timed
_SHARE_OF_RATE = 0.7  # of a large matrix product's rate that a step's products reach (docs/speed.md)
_BUSY = 1.5  # times the processor time that a step takes by the clock
_BYTES_KEPT = 12  # of a trained parameter in a checkpoint: its value and Adam's two moments, in float32
# On a CPU, measured on small LMs: what engine, TensorBoard and first step add to the libraries, and the share of
# a step's blocks that the C library keeps when they are freed, of which those above 32 MiB go back to the system.
_ENGINE = 120 * 2**20  # bytes
_KEPT_SHARE, _MOST_KEPT = 0.75, 2**30
_CHECKPOINTS = 3  # `last`, `best`, and the one that is being written


class Estimate:
    """The estimates of a configuration.

    Args:
        checkup: that has looked at the model and the files.
        ds_config: a complete DeepSpeed configuration.
        device: that the training takes.
        base: bytes of memory that the process takes without the model.
    """

    def __init__(self, checkup: Checkup, ds_config: dict[str, Any], device: torch.device, base: int) -> None:
        self.checkup, self.ds_config, self.device, self.base = checkup, ds_config, device, base
        self.batches = {training: checkup.batches(training) for training in (True, False)}
        self.work = {
            training: [checkup.work(training, numbers) for numbers in batches]
            for training, batches in self.batches.items()
        }
        model = checkup.model
        parameters = [] if model is None else list(model.parameters())
        self.trained = sum(value.numel() for value in parameters if value.requires_grad)
        self.frozen = sum(value.numel() for value in parameters if not value.requires_grad)
        self.trains_lm = model is not None and any(value.requires_grad for value in model.lm.parameters())

    def findings(self) -> Iterator[Finding]:
        """Steps, memory, time and disk."""
        if not self.batches[True]:
            yield Finding("warn", "estimate", "none without a training file that can be encoded")
            return
        if self.checkup.model is not None and not self.trained:
            yield Finding("ok", "steps", "none: nothing is trained, and the run folder is there at once")
            return
        settings = self.checkup.config.training
        steps = total_steps(len(self.batches[True]), settings.num_epochs, self.ds_config)
        text = f"{steps:,} on one rank: {len(self.batches[True]):,} batches of up to {settings.batch_size}"
        yield Finding("ok", "steps", f"{text} in each of {settings.num_epochs} epoch(s)")
        needed = yield from self._memory()
        yield from self._time(needed)
        yield from self._disk()

    def _largest(self) -> list[int]:
        batches, work = self.batches[True], self.work[True]
        return batches[max(range(len(batches)), key=work.__getitem__)]

    def _step(self, work: float, targets: float) -> StepSizes:
        copies, at_once = self.checkup.copies
        recomputed = self.checkup.config.model.gradient_checkpointing
        return StepSizes(round(work), round(targets), copies, at_once, recomputed)

    def _memory(self) -> Generator[Finding, None, float | None]:
        """The sum of a step on the largest batch against what there is; returns it, None where it is not known."""
        checkup, sizes = self.checkup, self.checkup.sizes
        if sizes is None:
            yield Finding("warn", "memory", "not known without the LM")
            return None
        largest = self._largest()
        step = self._step(checkup.work(True, largest), checkup.targets(True, largest))
        plain = zero_stage(self.ds_config) == 0
        parts = step_bytes(
            sizes,
            measured_activations(sizes, self.trains_lm),
            step,
            self.trained,
            self.frozen if checkup.model is not None else sizes.parameters,
            plain,
        )
        if self.device.type == "cuda":
            parts["libraries"] = 2**30
            if not plain:
                zero = self.ds_config.get("zero_optimization", {})
                parts["ZeRO's bucket"] = zero.get("reduce_bucket_size", 5e8) * sizes.bytes_per_value
            there = torch.cuda.mem_get_info(self.device)[0]
        else:
            parts["freed and kept"] = min(
                _MOST_KEPT, _KEPT_SHARE * sum(parts[name] for name in ("activations", "targets", "logits"))
            )
            parts["libraries"] = self.base + _ENGINE
            there = available_memory() + self.base
        needed = sum(parts.values())
        rows = f"largest batch of {step.tokens:,} positions" + (
            f" x {step.copies}" if step.copies > 1 else ""
        )
        named = ", ".join(f"{name} {size(value)}" for name, value in parts.items() if value >= 2**20)
        text = f"about {size(needed)} of {size(there)}: {named} ({rows})"
        fix = "; a smaller --batch, --bf16=yes or model.gradient_checkpointing takes less (docs/speed.md)"
        if needed > there:
            yield Finding("FAIL", "memory", f"{text}: too little{fix}")
        else:
            tight = needed > 0.85 * there
            yield Finding("warn" if tight else "ok", "memory", text + (f": tight{fix}" if tight else ""))
        return needed if needed <= there else None

    def _time(self, needed: float | None) -> Iterator[Finding]:
        checkup, settings = self.checkup, self.checkup.config.training
        if checkup.sizes is None or needed is None:
            yield Finding("warn", "time", "not estimated: the LM is not here, or its training does not fit")
            return
        total = sum(self.work[True])
        share = total / len(self.work[True])
        dtype = torch.bfloat16 if checkup.sizes.bytes_per_value == 2 else torch.float32
        rate = _SHARE_OF_RATE * matrix_rate(self.device, dtype)
        targets = sum(checkup.targets(True, numbers) for numbers in self.batches[True])
        flops = step_flops(checkup.sizes, self._step(total, targets), self.trained > self.frozen)
        epoch = flops / rate
        how = f"by arithmetic: {flops:.1e} operations an epoch at a measured {rate / 1e9:,.0f} G a second"
        forward, slower = 0.4 * epoch / total, 1.0
        if checkup.model is None:
            how += "; the model is not here"
        elif epoch * max(self.work[True]) / total > _LONGEST_STEP:
            how += "; a step is too long to be timed here"
        else:
            timed = StepTimes(checkup, self.device)
            timed.measure(self.batches[True], self.work[True], settings.learning_rate)
            slower = timed.busy if self.device.type == "cpu" else 1.0
            epoch, forward = timed.per_position * total, timed.forward_per_position
            how = f"by {timed.steps} real steps of {timed.per_position * share:.2g} s"
            yield Finding(
                "ok", "measured", f"peak memory of these steps {size(timed.peak)}, without DeepSpeed's copies"
            )
        validation = forward * sum(self.work[False])
        whole = settings.num_epochs * (epoch + validation)
        text = (
            f"about {duration(whole)} in all: an epoch {duration(epoch)}, validation {duration(validation)}"
        )
        yield Finding("ok", "time", f"{text} ({how}; one rank)")
        if slower > _BUSY:
            text = f"other work takes processors of this machine: alone a training takes {1 / slower:.0%} of that time"
            yield Finding("warn", "time", text)

    def _disk(self) -> Iterator[Finding]:
        checkup, config = self.checkup, self.checkup.config
        kept = 0
        if config.training.save_model and checkup.sizes is not None:
            each = _BYTES_KEPT * self.trained
            value = checkup.sizes.bytes_per_value if self.trained > self.frozen else 4
            kept = _CHECKPOINTS * each + 2 * value * self.trained
            every = config.training.save_steps
            when = f"every {every:,} steps and " if every else ""
            text = f"{size(each)} each, `latest` and `best`; {when}after each of {config.training.num_epochs} epoch(s)"
            yield Finding("ok", "checkpoints", f"{text}; and the trained part, {size(value * self.trained)}")
        yield disk_finding("log_dir", config.training.log_dir, kept, "give another folder with --log_dir")
        if config.dataset.cache_dir is not None:
            tokens = sum(len(example.ids) for part in checkup.encoded.values() for example in part)
            fix = "give another folder with --set dataset.cache_dir=FOLDER"
            yield disk_finding("cache_dir", config.dataset.cache_dir, 5 * tokens, fix)
        if checkup.lm.to_download:
            from huggingface_hub import constants

            fix = "set HF_HOME to another folder"
            yield disk_finding("HF cache", constants.HF_HUB_CACHE, checkup.lm.to_download, fix)


class StepTimes:
    """Times real steps.

    Args:
        checkup: gives model and batches.
        device: that they run on.
    """

    def __init__(self, checkup: Checkup, device: torch.device) -> None:
        assert checkup.model is not None
        self.checkup, self.device = checkup, device
        self.module = checkup.model.to(device)
        if checkup.config.model.load_bit != 32:  # as the engine does it
            self.module = self.module.to(next(self.module.lm.parameters()).dtype)
        self.steps, self.peak = 0, 0
        self.busy = 1.0
        self.per_position = self.forward_per_position = 0.0

    def measure(self, batches: list[list[int]], work: list[int], learning_rate: float) -> None:
        """Fill in seconds per position of an epoch, and of a forward pass alone."""
        trained = [value for value in self.module.parameters() if value.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=learning_rate) if trained else None
        order = sorted(range(len(batches)), key=work.__getitem__)
        largest = order[-1]
        others = random.Random(0).sample(order, min(len(order), 64))
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            restart_peak()
        self._seconds(batches[order[0]], optimizer)  # the first one is slower
        self._seconds(batches[largest], optimizer)
        self.peak = (
            peak_memory() if self.device.type == "cpu" else torch.cuda.max_memory_allocated(self.device)
        )
        seconds = done = 0.0
        processor = time.process_time()
        for place in others:
            seconds += self._seconds(batches[place], optimizer)
            done += work[place]
            self.steps += 1
            if seconds > _BUDGET:
                break
        self.per_position = seconds / done
        # what the threads have computed, against what they would have in that time if nobody else did
        self.busy = seconds / max(1e-9, (time.process_time() - processor) / torch.get_num_threads())
        self.forward_per_position = self._seconds(batches[others[0]], None) / work[others[0]]

    def _seconds(self, numbers: list[int], optimizer: torch.optim.Optimizer | None) -> float:
        started = time.perf_counter()
        batch = self.checkup.batch(True, numbers).to(self.device)
        self.module.train(optimizer is not None)
        with torch.set_grad_enabled(optimizer is not None):
            total = self.module(batch).total
        if optimizer is not None:
            total.backward()
            optimizer.step()
            optimizer.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - started


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large matrix product: the best of a few."""
    side = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(4):
        started = time.perf_counter()
        (left @ right)[0, 0].item()
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best
