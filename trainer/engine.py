"""DeepSpeed as the engine: let it check its configuration, wrap the module, and undo that at the end."""

import functools
import gc
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime.config import DeepSpeedConfig, DeepSpeedConfigError
from deepspeed.runtime.zero.parameter_offload import FWD_MODULE_STACK
from pydantic import ValidationError
from torch import nn

from models.settings import OptimisationSettings
from models.trainable import Trainable
from trainer.float32 import set_float32
from trainer.frozen import bit_sum
from trainer.schedule import make_scheduler
from utils.errors import UserError, first_line
from utils.partitioning import is_partitioned


def check_ds_config(ds_config: dict[str, Any]) -> None:
    """Let DeepSpeed read its configuration, before any work is done.

    Args:
        ds_config: from trainer.ds_config.complete_ds_config.

    Raises:
        UserError: DeepSpeed refuses it.
    """
    # where nothing but the configuration is read, a value of a wrong kind is the cause of these
    with _refusals_as_user_errors(TypeError, AttributeError, LookupError, ArithmeticError):
        DeepSpeedConfig(ds_config)


def make_engine(
    module: Trainable,
    training: OptimisationSettings,
    ds_config: dict[str, Any],
    total_steps: int,
    start: Mapping[str, torch.Tensor] | None = None,
) -> deepspeed.DeepSpeedEngine:
    """The module in a DeepSpeed engine with Adam on its groups of trainable parameters.

    Args:
        module: the module, on any device.
        training: learning rate and warm-up.
        ds_config: from trainer.ds_config.complete_ds_config.
        total_steps: optimiser steps of the whole training.
        start: float32 values of trainable parameters by name, for the copies that Adam updates where the module is
            in float16 or bfloat16; by default they start from the module's own, rounded ones.

    Raises:
        UserError: nothing is trainable, or DeepSpeed refuses the configuration.
        ValueError: the module's groups leave out a trainable parameter, or hold one that is not.
    """
    _follow_partitioned(module)
    groups = _checked_groups(module, training.learning_rate)
    optimizer = torch.optim.Adam(groups, lr=training.learning_rate)
    with _refusals_as_user_errors(), _frozen_not_sent(module):
        engine, _, _, _ = deepspeed.initialize(
            model=module,
            model_parameters=[parameter for group in groups for parameter in group["params"]],
            optimizer=optimizer,
            lr_scheduler=make_scheduler(optimizer, training, total_steps),
            config=ds_config,
        )
    for name, parameter in engine.module.named_parameters():
        if start and name in start:
            set_float32(parameter, start[name])
        if parameter.requires_grad and not is_partitioned(parameter):
            parameter.register_hook(_usual_strides)
    return engine


def _usual_strides(gradient: torch.Tensor) -> torch.Tensor:
    """The gradient with the strides of a new tensor, also in dimensions of size 1, where a part of one has others.

    DeepSpeed's stage 0 copies the gradient of a lone parameter onto itself; torch takes other strides for an overlap.
    """
    return gradient.view(-1).view(gradient.shape) if gradient.is_contiguous() else gradient


@contextmanager
def _frozen_not_sent(module: nn.Module) -> Iterator[None]:
    """In the body DeepSpeed sends no frozen weights from rank 0 to the others, which have read the same files.

    What it writes to a weight that is mapped from a file becomes memory of each rank; over a network it takes minutes.

    Raises:
        UserError: at the end: the ranks have different ones.
    """
    frozen = [
        weight for weight in module.parameters() if not (weight.requires_grad or is_partitioned(weight))
    ]
    for weight in frozen:
        # DeepSpeed's mark of weights that are not replicated
        weight.ds_optim_param = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for weight in frozen:
            # the same mark
            del weight.ds_optim_param  # type: ignore[attr-defined]
    # after DeepSpeed has put them on the device; a sum of whole numbers is the same in every order
    total = sum(bit_sum(weight) for weight in frozen)
    sums = [0] * dist.get_world_size()
    dist.all_gather_object(sums, int(total))
    if len(set(sums)) > 1:
        raise UserError(
            "the ranks have different frozen weights: the files of the base model are not the same everywhere"
        )


def _follow_partitioned(module: nn.Module) -> None:
    """Precision and device of what was made beside partitioned weights, which DeepSpeed expects to be there already."""
    partitioned = [parameter for parameter in module.parameters() if is_partitioned(parameter)]
    if not partitioned:
        return
    for parameter in module.parameters():
        if not is_partitioned(parameter):
            parameter.data = parameter.data.to(partitioned[0].device, partitioned[0].dtype)
    for buffer in module.buffers():
        buffer.data = buffer.data.to(partitioned[0].device)


def _checked_groups(module: Trainable, learning_rate: float) -> list[dict[str, Any]]:
    """The module's groups without empty ones; between them they hold what is trainable, and nothing else."""
    groups = [{**group, "params": list(group["params"])} for group in module.parameter_groups(learning_rate)]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise UserError("no parameter is trainable with this configuration")
    grouped = {id(parameter) for group in groups for parameter in group["params"]}
    wrong = [
        name
        for name, parameter in module.named_parameters()
        if parameter.requires_grad != (id(parameter) in grouped)
    ]
    if not grouped <= {id(parameter) for parameter in module.parameters()}:
        raise ValueError(f"parameter_groups of {type(module).__name__}: a parameter is not the module's own")
    if wrong:
        raise ValueError(
            f"parameter_groups of {type(module).__name__}: '{wrong[0]}' is trainable and in no group, or in one "
            "and not trainable"
        )
    return groups


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
def _refusals_as_user_errors(*more: type[Exception]) -> Iterator[None]:
    """One line for what DeepSpeed says about a configuration.

    Args:
        more: what it raises beside its usual errors.
    """
    try:
        yield
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise UserError(f"DeepSpeed refuses '{key}' of its configuration: {fault['msg']}") from None
    except (AssertionError, ValueError, NotImplementedError, DeepSpeedConfigError, *more) as error:
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


def total_steps(batches_per_epoch: int, num_epochs: int, ds_config: dict[str, Any]) -> int:
    """Optimiser steps of the whole training; what is left at an epoch's end takes a step of its own."""
    return math.ceil(batches_per_epoch / accumulation_steps(ds_config)) * num_epochs
