"""Learning-rate schedules: DeepSpeed's, started and scaled so that every update has a rate of its own, and Linear.

DeepSpeed's warm-ups begin with an update or two at learning rate 0, and count their steps from there.
"""

from typing import Any

import torch
from deepspeed.runtime import lr_schedules
from torch.optim.lr_scheduler import LambdaLR

from models.settings import OptimisationSettings


def make_scheduler(
    optimizer: torch.optim.Optimizer, training: OptimisationSettings, total_steps: int
) -> Any | None:
    """The scheduler of `warmup_type`, with the first update's learning rates set; None where there is none.

    With W updates of warm-up, from `warmup_min` to `learning_rate`, out of T:
    WarmupLR, WarmupDecayLR and WarmupCosineLR rise with the logarithm of the update's number and are at the top in
    update W; WarmupLR stays there, WarmupDecayLR falls along a line that would be back at `warmup_min` in update
    T + 1, and WarmupCosineLR along a cosine that is at 0.0001 of the learning rate in update T. OneCycle rises and
    falls along lines. LRRangeTest grows by its first value in every W updates. Where the first update would have
    learning rate 0, that step is left out. Linear rises along a line to the top in update W, and falls along a line
    that would be at 0 in update T + 1: without a warm-up update n has 1 - (n - 1) / T of the learning rate.
    LinearWarmup rises likewise, and stays there.

    A group of parameters whose rate is not `learning_rate` but r times that has r times the schedule's rate in
    every update.

    Args:
        optimizer: Adam, before DeepSpeed wraps it; its groups have their own rates.
        training: type, warm-up and learning rate.
        total_steps: T.
    """
    if training.warmup_type is None:
        return None
    warmup = round(training.warmup_ratio * total_steps)  # W
    low, high = training.warmup_min, training.learning_rate
    # 1 for a group without a rate of its own
    shares = [group["lr"] / high for group in optimizer.param_groups]
    lows, highs = [low * share for share in shares], [group["lr"] for group in optimizer.param_groups]
    tested = [max(low, high / 100) * share for share in shares]
    left_out = 1 if low == 0 or warmup == 0 else 0  # the step at learning rate 0
    rise, total = max(2, warmup + left_out), total_steps + left_out
    if training.warmup_type in ("Linear", "LinearWarmup"):
        end = total if training.warmup_type == "Linear" else None
        return _linear(optimizer, low / high, left_out, rise - 1, end)
    cycle = max(1, warmup)
    arguments: dict[str, dict[str, Any]] = {
        "WarmupLR": {"warmup_min_lr": lows, "warmup_max_lr": highs, "warmup_num_steps": rise},
        "WarmupDecayLR": {
            "total_num_steps": max(total, rise),
            "warmup_min_lr": lows,
            "warmup_max_lr": highs,
            "warmup_num_steps": rise,
        },
        "WarmupCosineLR": {
            "total_num_steps": max(total, rise),
            "warmup_min_ratio": low / high,
            "warmup_num_steps": rise,
        },
        "OneCycle": {
            "cycle_min_lr": lows,
            "cycle_max_lr": highs,
            "cycle_first_step_size": cycle,
            "cycle_second_step_size": max(1, total - cycle),
            "cycle_momentum": False,
        },
        "LRRangeTest": {"lr_range_test_min_lr": tested, "lr_range_test_step_size": cycle},
    }
    kind = training.warmup_type
    scheduler = getattr(lr_schedules, kind)(optimizer, **arguments[kind])
    # at iteration i a warm-up has taken i steps up, and the others i + 1
    first = {"OneCycle": left_out - 1, "LRRangeTest": -1}.get(kind, left_out)
    scheduler.step(first)
    return scheduler


def _linear(
    optimizer: torch.optim.Optimizer, low: float, left_out: int, top: int, end: int | None
) -> LambdaLR:
    """From the share `low` of each group's rate at step 0 to the whole at step `top`, then to 0 at step `end`.

    The first update is at step `left_out`; without an `end` it stays.
    """

    def share(update: int) -> float:
        step = update + left_out
        if step <= top:
            return low + (1 - low) * step / top
        if end is None:
            return 1.0
        return max(0.0, (end - step) / (end - top)) if end > top else 0.0

    return LambdaLR(optimizer, share)
