"""Linear layers by oneDNN where a model only computes: on a CPU, in float32, without gradients.

PyTorch multiplies matrices of floats by MKL, which has its fastest kernels for the processors of one maker; on others
those of oneDNN, which PyTorch brings along too, are more than twice as fast. Results differ in the last bits.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_WORTH = 1 << 20  # products of a layer below which the call costs more than the faster kernel saves


class _Linear(nn.Linear):
    """The layer that it was made of, weights, names and all."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`, by oneDNN wherever it can.

    Args:
        inputs: [*, I].
        weight: [O, I].
        bias: [O] or None.

    Returns:
        [*, O].
    """
    # what is asked most often comes first: a small layer takes little longer than these questions
    if (
        inputs.numel() * weight.shape[0] < _WORTH
        or torch.is_grad_enabled()
        or not inputs.dtype == weight.dtype == torch.float32
        or inputs.device.type != "cpu"
        or torch.is_autocast_enabled("cpu")
        or not _is_there()
    ):
        return F.linear(inputs, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")


def use_onednn(model: nn.Module) -> list[nn.Linear]:
    """Let the linear layers of a model compute by oneDNN wherever they can; subclasses of `nn.Linear` stay as they are.

    Does nothing where PyTorch was built without it.

    Returns:
        The layers that are another class now; `nn.Linear` as their class undoes it.
    """
    layers = [layer for layer in model.modules() if type(layer) is nn.Linear] if _is_there() else []
    for layer in layers:
        layer.__class__ = _Linear  # the weights stay where others hold them
    return layers


@cache
def _is_there() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
