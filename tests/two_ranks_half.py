"""What tests/two_ranks.py does in bfloat16: exact starts, and accumulation on two ranks."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from models.configuration import build_config
from models.trainable import StepOutput, Trainable
from tests.helpers import train
from trainer.engine import make_engine
from trainer.float32 import get_float32
from utils.distributed import DistributedContext

STAGES = (0, 1, 2, 3)


class Uneven(Trainable):
    """Parameters of 9, 3, 5 and 1 entries, which two ranks cannot share evenly."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.several = nn.Parameter(torch.randn(5))
        self.one = nn.Parameter(torch.randn(1))

    def forward(self, batch: Tensor, progress: float = 0.0) -> StepOutput:
        """Something that depends on all of them."""
        total = (self.linear(batch) * self.one).sum() + self.several.sum()
        return StepOutput(total, {"sum": total}, {"sum": len(batch)})

    def total_loss(self, losses: Mapping[str, Any]) -> Any:
        """The one there is."""
        return losses["sum"]


def starts_exactly(stage: int) -> bool:
    """Whether the float32 copies of an engine are the values that it was given to start from."""
    torch.manual_seed(0)
    model = Uneven()
    start = {name: parameter.detach() + 1e-4 for name, parameter in model.named_parameters()}
    settings = SimpleNamespace(learning_rate=0.01, warmup_type=None)
    ds_config = {
        "train_micro_batch_size_per_gpu": 1,
        "bf16": {"enabled": True},
        "zero_optimization": {"stage": stage},
    }
    engine = make_engine(model, settings, ds_config, 1, start)
    values = [(get_float32(parameter), start[name]) for name, parameter in engine.module.named_parameters()]
    return all(torch.equal(value, wanted) for value, wanted in values)


def answer(sections: dict[str, Any], out: str, distributed: DistributedContext) -> dict[str, Any]:
    """`exact`: whether each stage from 1 on starts exactly; `runs`: the run folder of each stage."""
    runs = {}
    for stage in STAGES:
        ds_config = Path(out) / f"half_{stage}.json"
        if distributed.is_main:
            content = {"zero_optimization": {"stage": stage}, "gradient_accumulation_steps": 4}
            ds_config.write_text(json.dumps(content), encoding="utf-8")
        distributed.barrier()
        config = build_config([("two ranks", sections)])
        runs[stage] = str(train(config, distributed, f"half{stage}", str(ds_config)))
    return {"exact": [starts_exactly(stage) for stage in STAGES if stage], "runs": runs}
