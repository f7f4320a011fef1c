"""Names of the authors' parameters and ours (docs/method.md, section 11)."""

import re

import torch
from torch import Tensor

from utils.errors import UserError, shown

_PROMPT = re.compile(r"models\.(0|[1-9][0-9]{0,4})\.prompt_encoder\.default\.embedding\.weight")
_FIXED = {
    "prompt_normalizer.weight": "retriever.linear.weight",
    "prompt_normalizer.bias": "retriever.linear.bias",
}
_ENCODER = re.compile(r"retriever\.(?=layers\.)")


def is_released_name(name: str) -> bool:
    """Whether the authors' parameter belongs to the trained part; the frozen LM's copies do not."""
    return bool(_PROMPT.fullmatch(name) or name in _FIXED or _ENCODER.match(name) or is_own_name(name))


def is_own_name(name: str) -> bool:
    """Whether a parameter is one of this project's trained part."""
    return name.startswith(("soft_prompts.", "retriever.linear.", "retriever.encoder."))


def from_released(state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """This project's names for the authors' parameters; own names pass.

    Args:
        state: trained parameters by the authors' names.
        source: for the message.

    Raises:
        UserError: the prompts are not numbered 0 to K - 1, or differ in shape.
    """
    prompts: dict[int, Tensor] = {}
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        match = _PROMPT.fullmatch(name)
        if match:
            prompts[int(match[1])] = tensor  # [V, D]
        elif is_own_name(name):
            renamed[name] = tensor
        else:
            renamed[_FIXED.get(name) or _ENCODER.sub("retriever.encoder.", name)] = tensor
    if prompts:
        if sorted(prompts) != list(range(len(prompts))):
            raise UserError(
                f"{source}: soft prompts {shown(sorted(prompts))} are not numbered 0 to {len(prompts) - 1}"
            )
        shapes = sorted({tuple(prompt.shape) for prompt in prompts.values()})
        if len(shapes) > 1:
            raise UserError(f"{source}: soft prompts of different shapes: {shown(shapes)}")
        # [K, V, D]
        renamed["soft_prompts.weight"] = torch.stack([prompts[index] for index in sorted(prompts)])
    return renamed
