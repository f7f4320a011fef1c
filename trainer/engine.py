"""DeepSpeed as the engine: start the processes' group, decide device and precision, wrap the model."""

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime import lr_schedules
from deepspeed.runtime.config import DeepSpeedConfigError
from pydantic import ValidationError
from torch import nn

from utils.ds_config import complete_ds_config
from utils.errors import UserError
from utils.schema import Config


@dataclass(frozen=True, slots=True)
class World:
    """This process, its device, and the processes beside it."""

    rank: int
    local_rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """The one process that prints and writes."""
        return self.rank == 0

    def say(self, text: str) -> None:
        """Print on the main process."""
        if self.is_main:
            print(text, flush=True)

    def share(self, value: Any) -> Any:
        """The main process's value, on every process."""
        if self.size == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all processes."""
        if self.size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, by rank, on every process."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            torch.distributed.barrier()


def start_world(local_rank: int = -1) -> World:
    """Join the launcher's processes, or make a world of one when there was no launcher.

    Args:
        local_rank: what the launcher passed as --local_rank; the environment wins.
    """
    accelerator = get_accelerator()
    local_rank = int(os.environ.get("LOCAL_RANK", max(local_rank, 0)))
    if "RANK" not in os.environ:
        alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
        os.environ.update(alone, MASTER_PORT=str(_free_port()))
    accelerator.set_device(local_rank)
    if accelerator.device_name() == "cpu":
        # DeepSpeed would compile a kernel for sharded inference, which nothing here uses: most of a minute on
        # a new machine, and an error where there is no compiler
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(
        dist_backend="gloo" if accelerator.device_name() == "cpu" else None,
        auto_mpi_discovery=False,
        verbose=False,
        timeout=timedelta(minutes=30),
    )
    return World(
        rank=torch.distributed.get_rank(),
        local_rank=local_rank,
        size=torch.distributed.get_world_size(),
        device=torch.device(
            accelerator.device_name(local_rank) if accelerator.device_name() != "cpu" else "cpu"
        ),
    )


def end_world() -> None:
    """Leave the process group, so that the process ends without a warning."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def decide_precision(load_bit: int | str) -> tuple[int | str, str | None]:
    """The precision that this device has for `load_bit`, and a sentence where it differs.

    Raises:
        UserError: bf16 on a device without it.
    """
    accelerator = get_accelerator()
    name = accelerator.device_name()
    if load_bit == 16 and not accelerator.is_fp16_supported():
        return "bf16", f"load_bit 16 -> bf16: {name} has no fast float16 here"
    if load_bit == "bf16" and not accelerator.is_bf16_supported():
        raise UserError(f"model.load_bit: bf16 is not supported on {name}; use 32 or 16")
    return load_bit, None


def make_engine(
    model: nn.Module, config: Config, ds_config: dict[str, Any], precision: int | str, total_steps: int
) -> tuple[deepspeed.DeepSpeedEngine, list[str]]:
    """The model in a DeepSpeed engine with Adam on its trainable parameters.

    Args:
        model: the model, on any device.
        config: learning rate, warm-up, clipping.
        ds_config: from utils.ds_config.read_ds_config.
        precision: from `decide_precision`.
        total_steps: optimiser steps of the whole training.

    Returns:
        The engine, and the automatic choices that were made.

    Raises:
        UserError: nothing is trainable, or DeepSpeed refuses the configuration.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise UserError("no parameter is trainable with this configuration")
    completed, notes = complete_ds_config(ds_config, config, precision)
    optimizer = torch.optim.Adam(trainable, lr=config.training.learning_rate)
    try:
        engine, _, _, _ = deepspeed.initialize(
            model=model,
            model_parameters=trainable,
            optimizer=optimizer,
            lr_scheduler=_scheduler(optimizer, config, total_steps),
            config=completed,
        )
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise UserError(f"DeepSpeed refuses '{key}' of its configuration: {fault['msg']}") from None
    except (AssertionError, ValueError, DeepSpeedConfigError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"DeepSpeed refuses the configuration: {reason}") from None
    return engine, notes


def _scheduler(optimizer: torch.optim.Optimizer, config: Config, total_steps: int) -> Any | None:
    training = config.training
    if training.warmup_type is None:
        return None
    warmup = max(2, round(training.warmup_ratio * total_steps))
    low, high = training.warmup_min, training.learning_rate
    total = max(total_steps, warmup + 1)
    arguments: dict[str, dict[str, Any]] = {
        "WarmupLR": {"warmup_min_lr": low, "warmup_max_lr": high, "warmup_num_steps": warmup},
        "WarmupDecayLR": {
            "total_num_steps": total,
            "warmup_min_lr": low,
            "warmup_max_lr": high,
            "warmup_num_steps": warmup,
        },
        "WarmupCosineLR": {
            "total_num_steps": total,
            "warmup_min_ratio": low / high,
            "warmup_num_steps": warmup,
        },
        "OneCycle": {
            "cycle_min_lr": low,
            "cycle_max_lr": high,
            "cycle_first_step_size": warmup,
            "cycle_second_step_size": total - warmup,
            "cycle_momentum": False,
        },
        "LRRangeTest": {"lr_range_test_min_lr": max(low, high / 100), "lr_range_test_step_size": warmup},
    }
    return getattr(lr_schedules, training.warmup_type)(optimizer, **arguments[training.warmup_type])


def parameter_summary(model: nn.Module) -> str:
    """`615,168 parameters trained, 125,239,296 frozen`."""
    counts = {True: 0, False: 0}
    for parameter in model.parameters():
        counts[parameter.requires_grad] += getattr(parameter, "ds_numel", parameter.numel())
    return f"{counts[True]:,} parameters trained, {counts[False]:,} frozen"


def accumulation_steps(ds_config: dict[str, Any]) -> int:
    """Batches per optimiser step."""
    return int(ds_config.get("gradient_accumulation_steps", 1))


def total_steps(batches_per_epoch: int, config: Config, ds_config: dict[str, Any]) -> int:
    """Optimiser steps of the whole training."""
    return max(1, batches_per_epoch * config.training.num_epochs // accumulation_steps(ds_config))
