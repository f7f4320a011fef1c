"""The precisions that a model can have."""

import torch

DTYPES = {32: torch.float32, 16: torch.float16, "bf16": torch.bfloat16}
PRECISIONS = {32: "float32", 16: "float16", "bf16": "bfloat16"}
