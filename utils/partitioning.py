"""Weights that the ranks share out as they are loaded (ZeRO stage 3), so that no rank ever holds them all.

A partitioned parameter is empty outside of the engine's own passes: `ds_shape` has its shape, and its values come
together only in the contexts below, which every rank must enter.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

_asked: list[dict[str, Any]] = []


@contextmanager
def partition_on_loading(ds_config: dict[str, Any]) -> Iterator[None]:
    """In the body `partitioning` gives this DeepSpeed configuration to whatever loads weights.

    Args:
        ds_config: a complete one; a stage below 3 partitions no weights, and is not given.
    """
    if ds_config.get("zero_optimization", {}).get("stage", 0) < 3:
        yield
        return
    _asked.append(ds_config)
    try:
        yield
    finally:
        _asked.pop()


def partitioning() -> dict[str, Any] | None:
    """The DeepSpeed configuration that weights are to be partitioned by on loading; None: they are loaded whole."""
    return _asked[-1] if _asked else None


def end_partitioning() -> None:
    """Give the process torch's own `linear` back, once nothing is partitioned any more.

    Loading partitioned weights replaces it by one that keeps no view of them, for good; for the backward pass that one
    keeps the input of every layer, also where weights are frozen.
    """
    loading = sys.modules.get("deepspeed.runtime.zero.partition_parameters")
    own = loading and getattr(loading.InsertPostInitMethodToModuleSubClasses, "linear_bk", None)
    if own:
        torch.nn.functional.linear = own


def is_partitioned(parameter: torch.Tensor) -> bool:
    """Whether each rank has a share of it only."""
    return hasattr(parameter, "ds_id")


def whole_shape(parameter: torch.Tensor) -> torch.Size:
    """The shape of all shares together."""
    return getattr(parameter, "ds_shape", parameter.shape)


@contextmanager
def whole(parameters: Iterable[torch.Tensor], changed: bool = False) -> Iterator[None]:
    """In the body these parameters have their values; those that are not partitioned always have.

    Args:
        parameters: on every rank the same.
        changed: the body changes them; the values of rank 0 are kept.
    """
    shared = [parameter for parameter in parameters if is_partitioned(parameter)]
    with _gathered(shared, changed) if shared else nullcontext():
        yield


@contextmanager
def whole_when_used(module: nn.Module) -> Iterator[None]:
    """In the body each part of a module has its values while it runs, as in an engine; one part at a time."""
    with ExitStack() as hooks:
        for part in module.modules():
            shared = [weight for weight in part.parameters(recurse=False) if is_partitioned(weight)]
            if shared:
                _hold_while_running(part, shared, hooks)
        yield


def _hold_while_running(part: nn.Module, shared: list[nn.Parameter], hooks: ExitStack) -> None:
    gathered = ExitStack()

    def enter(*_: Any) -> None:
        gathered.enter_context(_gathered(shared))

    def leave(*_: Any) -> None:
        gathered.close()

    hooks.callback(part.register_forward_pre_hook(enter).remove)
    hooks.callback(part.register_forward_hook(leave, always_call=True).remove)


def _gathered(shared: list[Any], changed: bool = False) -> Any:
    from deepspeed.runtime.zero.partition_parameters import GatheredParameters  # takes seconds

    return GatheredParameters(shared, modifier_rank=0 if changed else None)
