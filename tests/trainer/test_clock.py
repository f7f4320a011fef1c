"""Seconds of each part of an epoch: what is reported is what was spent, and a resumed run goes on with it."""

import time

import pytest
import torch

from tests.helpers import logged
from tests.trainer.regression import Regression, regression_task
from trainer.clock import PARTS, STEP_PARTS, Clock, in_words
from trainer.training import train

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    """A clock and a list whose first item is the time."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return Clock(CPU), now


def test_each_part_gets_what_was_spent_on_it(clock):
    """Time that is given to the next part, or counted twice, sends whoever reads it to the wrong place."""
    clock, now = clock
    now[0] += 50  # before the first step
    clock.restart()
    for seconds, part in ((1, "data"), (2, "forward"), (4, "backward"), (8, "data"), (16, "update")):
        now[0] += seconds
        clock.mark(part)
    now[0] += 32  # nobody's yet
    assert clock.figures() == {
        "seconds_data": 9,
        "seconds_forward": 2,
        "seconds_backward": 4,
        "seconds_update": 16,
        "seconds_logging": 0,
    }
    clock.mark("logging")
    assert clock.figures() == {f"seconds_{part}": 32 * (part == "logging") for part in STEP_PARTS}
    now[0] += 64
    clock.mark("validation")
    whole = {"data": 9, "forward": 2, "backward": 4, "update": 16, "logging": 32, "validation": 64}
    assert clock.so_far() == clock.so_far() == whole
    assert clock.end_epoch() == whole
    assert clock.end_epoch() == {}


def test_an_epoch_that_goes_on_has_its_first_part_too():
    """A run that was stopped in the middle of an epoch would seem to have trained it in half the time."""
    clock = Clock(CPU, {"data": 5.0, "saving": 1.0})
    clock.mark("data")
    so_far = clock.end_epoch()
    assert list(so_far) == ["data", "saving"]
    assert so_far["data"] >= 5
    assert so_far["saving"] == 1


def test_words():
    """One line, from which the part that takes the time is seen at once."""
    assert (
        in_words({"data": 1.0, "forward": 3.0})
        == "seconds: data 1.00 (25 %), forward 3.00 (75 %); in all 4.00"
    )
    assert in_words({}) == "seconds: ; in all 0.00"


class Slow(Regression):
    """A forward pass that takes a while."""

    def forward(self, batch, progress=0.0):
        """As before, later."""
        time.sleep(0.02)
        return super().forward(batch, progress)


def test_the_rows_of_a_run_add_up(distributed, tmp_path, capsys):
    """A part that no row has is where the time of a slow run goes unseen."""
    run = train(regression_task(str(tmp_path), Slow, num_epochs=2), distributed, "seconds")
    epochs, rows = logged(run, "seconds"), logged(run, "train")
    assert [(row["epoch"], row["step"]) for row in epochs] == [(0, 3), (1, 6)]
    for row in epochs:
        assert row.keys() == {"phase", "step", "epoch", *(f"seconds_{part}" for part in PARTS)}
        assert row["seconds_forward"] >= 3 * 0.02
        assert row["seconds_validation"] >= 3 * 0.02
        of_epoch = [step for step in rows if step["epoch"] == row["epoch"]]
        for part in ("data", "forward", "backward", "update"):
            name = f"seconds_{part}"
            assert sum(step[name] for step in of_epoch) == pytest.approx(row[name], abs=1e-5)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(", seconds: data ")[0] for line in lines if ", seconds: data " in line] == [
        "epoch 1",
        "epoch 2",
    ]
    assert [line for line in lines if line.startswith("after the last epoch, seconds: saving ")]


def test_a_mark_costs_nothing(clock):
    """A clock that keeps something of every mark grows with the steps of a training."""
    clock, _ = clock
    for _ in range(1000):
        for part in STEP_PARTS:
            clock.mark(part)
    assert set(clock.so_far()) == set(STEP_PARTS)
    assert len(clock._marks) == 0


@pytest.mark.gpu
def test_on_a_gpu_the_parts_are_the_devices(monkeypatch):
    """A kernel returns to Python long before the device has run it: its time would be the next part's."""
    monkeypatch.setattr("trainer.clock._MOST_EVENTS", 3)
    device = torch.device("cuda")
    matrix = torch.randn(8192, 8192, device=device)
    matrix @ matrix
    torch.cuda.synchronize()
    clock, started = Clock(device), time.perf_counter()
    for _ in range(3):
        clock.mark("data")
        for _ in range(20):
            matrix @ matrix
        clock.mark("forward")
    seconds = clock.end_epoch()
    whole = time.perf_counter() - started
    assert seconds["forward"] > 0.9 * whole
    assert sum(seconds.values()) < 1.01 * whole
