"""Matrix products of a float32 LM on a CPU, through oneDNN.

For float32 torch calls MKL, which leaves the wide vectors of other makers' processors unused; oneDNN, which comes with
torch too, uses them (docs/speed.md). It has no gradients here, so it serves decoding alone; bf16 goes through it
anyway.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`, by the faster library where it is float32 on a CPU and nothing asks for a gradient.

    Args:
        inputs: [*, I].
        weight: [O, I].
        bias: [O] or None.

    Returns:
        [*, O].
    """
    if (
        weight.device.type != "cpu"
        or not weight.dtype == inputs.dtype == torch.float32
        or not inputs.numel()
        or (torch.is_grad_enabled() and (inputs.requires_grad or weight.requires_grad))
        or not torch.backends.mkldnn.enabled
        or not hasattr(torch.ops.mkldnn, "_linear_pointwise")
    ):
        return F.linear(inputs, weight, bias)
    # what torch.compile makes of a linear layer on a CPU: no activation after it
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")


@contextmanager
def fast_products(lm: nn.Module) -> Iterator[None]:
    """Within it all linear layers of an LM go through `linear`; layers of other kinds stay as they are."""
    layers = [module for module in lm.modules() if type(module) is nn.Linear]
    for layer in layers:
        # an attribute of the instance comes before the method of its class
        layer.forward = partial(_forward, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(layer: nn.Linear, inputs: Tensor) -> Tensor:
    return linear(inputs, layer.weight, layer.bias)
