"""The learning rate of a run that went on with another number of ranks, whose steps are of another size."""

import pytest

from tests.helpers import logged
from tests.trainer.test_resume import runs  # noqa: F401
from trainer import loop

SCHEDULE = {"warmup_type": "Linear", "warmup_ratio": 0.0, "log_every": 1}


def test_the_schedule_goes_on_at_the_same_share(runs, monkeypatch):  # noqa: F811
    """Stopped twice, a rate that starts high again; and a checkpoint that cannot be read for its many small steps.

    Two ranks are forged, which had made 3 of their 12 steps, after 37 smaller ones of one rank.
    """
    make, changed = loop.Progress, []

    def progress(**values):
        if values and not changed:
            changed.append(True)
            values |= {"steps": 40, "total_steps": 12, "scheduled": 3, "ranks": 2, "done": ((2, 3),)}
        return make(**values)

    monkeypatch.setattr(loop, "Progress", progress)
    run = runs(4, 46, training=SCHEDULE)
    rates = {row["step"]: row["lr"] for row in logged(run, "train") if row["step"] > 40}
    assert sorted(rates) == list(range(41, 58))  # 6 of the epoch and 11 of the next one
    for step, rate in rates.items():
        place = step - 40 + 3 * 22 // 12
        assert rate == pytest.approx(0.01 * (1 - (place - 1) / 22)), step
