"""The float32 values of parameters that a model holds in float16 or bfloat16: DeepSpeed's Adam updates those.

A model in half precision rounds what it learns: after a short training at a low learning rate most of its own
entries are still where they began.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from deepspeed.utils import safe_get_full_fp32_param, safe_set_full_fp32_param, safe_set_local_fp32_param
from torch import Tensor, nn


def get_float32(parameter: nn.Parameter) -> Tensor:
    """The value that is trained, whole, on the device of the model; every rank must call it.

    Args:
        parameter: of a model in a DeepSpeed engine or in none.
    """
    value = safe_get_full_fp32_param(parameter)  # None where the parameter itself is what is trained
    return (parameter if value is None else value).detach()


@torch.no_grad()
def set_float32(parameter: nn.Parameter, value: Tensor) -> None:
    """Start the training of a parameter from a float32 value, of which the model has the rounded one.

    Args:
        parameter: of a model in a DeepSpeed engine.
        value: of the parameter's shape; the same on every rank.
    """
    if not (hasattr(parameter, "ds_tensor") and hasattr(parameter, "ds_process_group")):
        safe_set_full_fp32_param(parameter, value)
        return
    # stage 3: DeepSpeed's own way to set a whole value fails where the ranks do not share it evenly
    safe_set_local_fp32_param(parameter, local_part(parameter, value))


def local_part(parameter: Any, value: Tensor) -> Tensor:
    """This rank's share of a whole value of a parameter that ZeRO stage 3 has partitioned, padded."""
    size, rank = parameter.ds_tensor.numel(), dist.get_rank(parameter.ds_process_group)
    part = value.flatten()[rank * size : (rank + 1) * size]
    return F.pad(part, (0, size - part.numel()))
