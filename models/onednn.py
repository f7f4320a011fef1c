"""Linear layers by oneDNN where a model only computes: on a CPU, in float32, without gradients.

PyTorch multiplies matrices of floats by MKL, which has its fastest kernels for the processors of one maker; on others
those of oneDNN, which PyTorch brings along too, are more than twice as fast. Results differ in the last bits.
"""

import torch
from torch import Tensor, nn


class _Linear(nn.Linear):
    """The layer that it was made of, weights, names and all."""

    def forward(self, input: Tensor) -> Tensor:
        fits = input.dtype == self.weight.dtype == torch.float32 and input.device.type == "cpu"
        if not fits or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or not input.numel():
            return super().forward(input)
        return torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")


def use_onednn(model: nn.Module) -> None:
    """Let the linear layers of a model compute by oneDNN wherever they can; subclasses of `nn.Linear` stay as they are.

    Does nothing where PyTorch was built without it.
    """
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return
    for layer in model.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = _Linear  # the weights stay where others hold them
