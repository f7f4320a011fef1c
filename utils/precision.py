"""The precisions that a module can have, and which of them a device has."""

import os
from typing import Literal

import torch
import torch.utils.deterministic

from utils.errors import UserError

Precision = Literal[16, 32, "bf16"]
DTYPES = {32: torch.float32, 16: torch.float16, "bf16": torch.bfloat16}
PRECISIONS = {32: "float32", 16: "float16", "bf16": "bfloat16"}


def decide_precision(wanted: Precision, key: str) -> tuple[Precision, str | None]:
    """The precision that this device has for the one wanted, and a sentence where it differs.

    Args:
        wanted: float32, float16 or bfloat16.
        key: of the configuration that asks for it, for messages.

    Raises:
        UserError: bf16 on a device without it.
    """
    from deepspeed.accelerator import get_accelerator  # takes seconds, and only a run needs it

    accelerator = get_accelerator()
    name = accelerator.device_name()
    if wanted == 16 and not accelerator.is_fp16_supported():
        return "bf16", f"{key} 16 -> bf16: {name} has no fast float16 here"
    if wanted == "bf16" and not accelerator.is_bf16_supported():
        raise UserError(f"{key}: bf16 is not supported on {name}; use 32 or 16")
    return wanted, None


def set_tf32(allowed: bool) -> None:
    """Whether float32 products on CUDA may be computed in TF32, which has 10 bits of mantissa instead of 23.

    A statement for the whole process; other devices know no TF32, and bf16 and float16 are not concerned.
    """
    torch.set_float32_matmul_precision("high" if allowed and torch.cuda.is_available() else "highest")


def set_deterministic(wanted: bool) -> None:
    """Whether the same work gives the same bits on the same machine; where torch has no such way, it raises.

    A statement for the whole process.
    """
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # filling new tensors costs time, and changes no result
        setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010 (mypy knows it not)
    torch.use_deterministic_algorithms(wanted)


def describe_precision(precision: Precision, device: torch.device) -> str:
    """`float32`, and on CUDA whether products of float32 are computed in TF32."""
    if device.type != "cuda":
        return PRECISIONS[precision]
    return f"{PRECISIONS[precision]}, TF32 {'off' if torch.get_float32_matmul_precision() == 'highest' else 'on'}"
