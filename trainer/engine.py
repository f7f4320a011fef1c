"""DeepSpeed as the engine: start the processes' group, decide device and precision, wrap the model."""

import functools
import gc
import math
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime.config import DeepSpeedConfig, DeepSpeedConfigError
from deepspeed.runtime.zero.parameter_offload import FWD_MODULE_STACK
from pydantic import ValidationError
from torch import nn
from torch.distributed.distributed_c10d import _set_pg_timeout

from trainer.float32 import set_float32
from trainer.schedule import make_scheduler
from utils.errors import UserError, first_line
from utils.schema import Config

JOINING = timedelta(minutes=5)  # for all ranks to import, parse and join


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
    try:
        deepspeed.init_distributed(
            dist_backend="gloo" if accelerator.device_name() == "cpu" else None,
            auto_mpi_discovery=False,
            verbose=False,
            timeout=JOINING,
        )
    except torch.distributed.DistError as error:
        raise UserError(
            f"rank {os.environ['RANK']}: not all of {os.environ['WORLD_SIZE']} ranks joined within "
            f"{JOINING.seconds // 60} minutes; see what the others printed ({first_line(error)})"
        ) from None
    # a rank that died is found by trainer/liveness.py; one that is slower than the others may take its time
    _set_pg_timeout(timedelta(days=7))
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


def check_ds_config(ds_config: dict[str, Any]) -> None:
    """Let DeepSpeed read its configuration, before any work is done.

    Args:
        ds_config: from utils.ds_config.complete_ds_config.

    Raises:
        UserError: DeepSpeed refuses it.
    """
    with _refusals_as_user_errors():
        DeepSpeedConfig(ds_config)


def make_engine(
    model: nn.Module,
    config: Config,
    ds_config: dict[str, Any],
    total_steps: int,
    start: dict[str, torch.Tensor] | None = None,
) -> deepspeed.DeepSpeedEngine:
    """The model in a DeepSpeed engine with Adam on its trainable parameters.

    Args:
        model: the model, on any device.
        config: learning rate and warm-up.
        ds_config: from utils.ds_config.complete_ds_config.
        total_steps: optimiser steps of the whole training.
        start: float32 values of trainable parameters by name, for the copies that Adam updates where the model is
            in float16 or bfloat16; by default they start from the model's own, rounded ones.

    Raises:
        UserError: nothing is trainable, or DeepSpeed refuses the configuration.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise UserError("no parameter is trainable with this configuration")
    optimizer = torch.optim.Adam(trainable, lr=config.training.learning_rate)
    with _refusals_as_user_errors():
        engine, _, _, _ = deepspeed.initialize(
            model=model,
            model_parameters=trainable,
            optimizer=optimizer,
            lr_scheduler=make_scheduler(optimizer, config.training, total_steps),
            config=ds_config,
        )
    for name, parameter in engine.module.named_parameters():
        if start and name in start:
            set_float32(parameter, start[name])
    return engine


def end_engine(engine: deepspeed.DeepSpeedEngine) -> None:
    """Undo what DeepSpeed hangs on the model; what is left of both are cycles, see `free_memory`."""
    engine.destroy()
    # stage 3 keeps its last model for good: in this list, and among the arguments of a method with a cache
    FWD_MODULE_STACK.clear()
    for item in gc.get_objects():
        if type(item) is functools._lru_cache_wrapper and item.__module__.startswith(
            "deepspeed.runtime.zero"
        ):
            item.cache_clear()


def free_memory() -> None:
    """Give back the memory of models that nothing uses any more, the accelerator's too."""
    gc.collect()
    get_accelerator().empty_cache()


@contextmanager
def _refusals_as_user_errors() -> Iterator[None]:
    """One line for what DeepSpeed says about a configuration."""
    try:
        yield
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise UserError(f"DeepSpeed refuses '{key}' of its configuration: {fault['msg']}") from None
    except (AssertionError, ValueError, NotImplementedError, DeepSpeedConfigError) as error:
        raise UserError(f"DeepSpeed refuses the configuration: {first_line(error)}") from None


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
    """Optimiser steps of the whole training; what is left at an epoch's end takes a step of its own."""
    return math.ceil(batches_per_epoch / accumulation_steps(ds_config)) * config.training.num_epochs
