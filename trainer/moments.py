"""Adam's state of each trained parameter, whole, whatever the ZeRO stage and the number of ranks that share it.

ZeRO keeps the states of many parameters in flat tensors that the ranks share out. A state that is read here parameter
by parameter can be set in an engine of another stage and another number of ranks.
"""

from collections.abc import Iterator
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import safe_get_full_optimizer_state, safe_set_local_optimizer_state
from torch import Tensor, nn

from trainer.float32 import local_part
from utils.errors import UserError
from utils.partitioning import is_partitioned, whole_shape

MOMENTS = ("exp_avg", "exp_avg_sq")
# ZeRO's flat tensors, under the names of DeepSpeed's optimisers (stages 1 and 2; 1 with float32 gradients; 3)
_FLAT = ("single_partition_of_fp32_groups", "fp32_groups_flat_partition", "fp32_partitioned_groups_flat")


def trained_parameters(engine: deepspeed.DeepSpeedEngine) -> list[tuple[str, nn.Parameter]]:
    """Name and parameter, on every rank in the same order."""
    return [
        (name, parameter) for name, parameter in engine.module.named_parameters() if parameter.requires_grad
    ]


def updates(engine: deepspeed.DeepSpeedEngine) -> dict[str, int]:
    """How often Adam has changed each parameter, by name; ZeRO counts all of them together."""
    states = _adam(engine).state
    if _flat_tensors(engine) is None:
        found = {name: states.get(parameter, {}) for name, parameter in trained_parameters(engine)}
        return {name: int(state.get("step", 0)) for name, state in found.items()}
    count = max((int(state["step"]) for state in states.values() if "step" in state), default=0)
    return {name: count for name, _ in trained_parameters(engine)}


def read_moments(engine: deepspeed.DeepSpeedEngine, parameter: nn.Parameter) -> Iterator[Tensor]:
    """The two moments of a parameter that was updated, float32 and whole; every rank must call it."""
    for key in MOMENTS:
        if _flat_tensors(engine) is None:
            value = _adam(engine).state[parameter][key]
        elif is_partitioned(parameter):
            value = safe_get_full_optimizer_state(parameter, key)
        else:  # DeepSpeed's own way knows the states of the first group only
            value = torch.zeros_like(parameter, dtype=torch.float32).flatten()
            share = _share(engine, parameter, key)
            if share is not None:
                place, mine = share
                value[place] = mine
            dist.all_reduce(value)
        yield value.detach().float().view(whole_shape(parameter))


@torch.no_grad()
def set_moments(
    engine: deepspeed.DeepSpeedEngine, counts: dict[str, int], values: dict[str, Iterator[Tensor]]
) -> None:
    """Go on with Adam's states of another engine.

    Args:
        engine: before its first step.
        counts: of `updates`.
        values: the two moments of each parameter with a count above 0, of the parameter's shape.

    Raises:
        UserError: the states are swapped to NVMe, where they cannot be set.
    """
    if getattr(engine.optimizer, "swap_optimizer", False):
        raise UserError("offload_optimizer.device = nvme: Adam's states cannot be resumed there; use cpu")
    adam, flat = _adam(engine), _flat_tensors(engine)
    if flat is None:
        parameters = trained_parameters(engine)
        adam.state |= {
            parameter: _state(counts[name], parameter) for name, parameter in parameters if counts[name]
        }
    elif any(counts.values()):
        adam.state |= {tensor: _state(max(counts.values()), tensor) for tensor in flat}
    for name, parameter in trained_parameters(engine):
        if not counts[name]:
            continue  # its moments are 0
        for key, value in zip(MOMENTS, values[name], strict=True):
            if flat is None:
                adam.state[parameter][key].copy_(value)
            elif is_partitioned(parameter):
                safe_set_local_optimizer_state(parameter, local_part(parameter, value), key)
            elif share := _share(engine, parameter, key):
                place, mine = share
                mine.copy_(value.flatten()[place])


def _share(engine: deepspeed.DeepSpeedEngine, parameter: Any, key: str) -> tuple[slice, Tensor] | None:
    """Which values of a parameter this rank has at ZeRO stages 1 and 2, and their part of Adam's flat state."""
    mapping = parameter._hp_mapping
    if mapping is None:
        return None
    storage = mapping.hp_fragment.untyped_storage().data_ptr()
    flat = next(
        tensor for tensor in _flat_tensors(engine) or () if tensor.untyped_storage().data_ptr() == storage
    )
    whole, mine = mapping.lp_fragment_address, mapping.hp_fragment_address
    state = _adam(engine).state[flat][key].view(-1).narrow(0, mine.start, mine.numel)
    return slice(whole.start, whole.start + whole.numel), state


def _adam(engine: deepspeed.DeepSpeedEngine) -> torch.optim.Optimizer:
    """torch's Adam, inside whatever DeepSpeed has put around it."""
    return getattr(engine.optimizer, "optimizer", engine.optimizer)


def _flat_tensors(engine: deepspeed.DeepSpeedEngine) -> list[Tensor] | None:
    """ZeRO's flat tensors; None where Adam has the parameters themselves."""
    found = (getattr(engine.optimizer, name, None) for name in _FLAT)
    return next((list(tensors) for tensors in found if tensors is not None), None)


def _state(count: int, like: Tensor) -> dict[str, Any]:
    return {
        "step": torch.tensor(float(count)),
        **{key: torch.zeros_like(like, memory_format=torch.preserve_format) for key in MOMENTS},
    }
