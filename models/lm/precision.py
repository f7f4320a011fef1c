"""The precision of a model: which there are, and which of them a device has."""

import torch
from deepspeed.accelerator import get_accelerator

from utils.errors import UserError

DTYPES = {32: torch.float32, 16: torch.float16, "bf16": torch.bfloat16}
PRECISIONS = {32: "float32", 16: "float16", "bf16": "bfloat16"}


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
