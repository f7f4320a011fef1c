"""Learning-rate schedules: the exact rate of every update, as Adam uses it."""

import json
from math import cos, log, pi
from types import SimpleNamespace

import pytest
import torch

from tests.helpers import logged, train
from trainer.schedule import make_scheduler

HIGH = 0.01
# 4 batches an epoch, 3 to an update: 2 updates an epoch, 6 in 3 epochs, and half of them are warm-up
RUN = {"training_ratio": 0.2, "num_epochs": 3, "warmup_ratio": 0.5, "log_every": 1, "save_model": False}
LAST = 0.0001  # where DeepSpeed's cosine ends, as a share of the learning rate


def _cosine(progress):
    return HIGH * (LAST + (1 - LAST) * (1 + cos(pi * progress)) / 2)


# three updates of warm-up, at the top in the third; then three more
FROM_ZERO = {
    "WarmupLR": [HIGH * log(2) / log(4), HIGH * log(3) / log(4), HIGH, HIGH, HIGH, HIGH],
    "WarmupDecayLR": [HIGH * log(2) / log(4), HIGH * log(3) / log(4), HIGH, HIGH, HIGH * 2 / 3, HIGH / 3],
    "WarmupCosineLR": [
        HIGH * log(2) / log(4),
        HIGH * log(3) / log(4),
        HIGH,
        _cosine(1 / 3),
        _cosine(2 / 3),
        HIGH * LAST,
    ],
    "OneCycle": [HIGH / 3, HIGH * 2 / 3, HIGH, HIGH * 3 / 4, HIGH * 2 / 4, HIGH / 4],
    "LRRangeTest": [0.0001, 0.0001 * 4 / 3, 0.0001 * 5 / 3, 0.0002, 0.0001 * 7 / 3, 0.0001 * 8 / 3],
    "Linear": [HIGH / 3, HIGH * 2 / 3, HIGH, HIGH * 3 / 4, HIGH * 2 / 4, HIGH / 4],
    "LinearWarmup": [HIGH / 3, HIGH * 2 / 3, HIGH, HIGH, HIGH, HIGH],
}
LOW = 0.001
RISE = 0.009  # HIGH - LOW
FROM_LOW = {
    "WarmupLR": [LOW, LOW + RISE * log(2) / log(3), HIGH, HIGH, HIGH, HIGH],
    "WarmupDecayLR": [
        LOW,
        LOW + RISE * log(2) / log(3),
        HIGH,
        HIGH,
        LOW + RISE * 2 / 3,
        LOW + RISE / 3,
    ],
    "WarmupCosineLR": [
        LOW,
        LOW + RISE * log(2) / log(3),
        HIGH,
        _cosine(1 / 3),
        _cosine(2 / 3),
        HIGH * LAST,
    ],
    "OneCycle": [LOW, LOW + RISE / 3, LOW + RISE * 2 / 3, HIGH, LOW + RISE * 2 / 3, LOW + RISE / 3],
    "LRRangeTest": [LOW, LOW * 4 / 3, LOW * 5 / 3, LOW * 2, LOW * 7 / 3, LOW * 8 / 3],
    "Linear": [LOW, LOW + RISE / 2, HIGH, HIGH * 3 / 4, HIGH * 2 / 4, HIGH / 4],  # it falls to 0
    "LinearWarmup": [LOW, LOW + RISE / 2, HIGH, HIGH, HIGH, HIGH],
}
NO_WARMUP = {
    "WarmupLR": [HIGH] * 6,
    "WarmupDecayLR": [HIGH, HIGH, LOW + RISE * 4 / 5, LOW + RISE * 3 / 5, LOW + RISE * 2 / 5, LOW + RISE / 5],
    "WarmupCosineLR": [HIGH, _cosine(1 / 5), _cosine(2 / 5), _cosine(3 / 5), _cosine(4 / 5), HIGH * LAST],
    "Linear": [HIGH, HIGH * 5 / 6, HIGH * 4 / 6, HIGH * 3 / 6, HIGH * 2 / 6, HIGH / 6],
    "LinearWarmup": [HIGH] * 6,
}


@pytest.fixture
def rates_of(make_config, distributed, tmp_path, monkeypatch):
    """rates_of(training): the learning rate at each of Adam's updates, and the one logged for it."""

    def run(**training):
        used = []
        step = torch.optim.Adam.step

        def noting(self, *arguments, **named):
            used.append(float(self.param_groups[0]["lr"]))
            return step(self, *arguments, **named)

        monkeypatch.setattr(torch.optim.Adam, "step", noting)
        ds_config = tmp_path / "ds.json"
        ds_config.write_text(json.dumps({"gradient_accumulation_steps": 3}), encoding="utf-8")
        folder = train(make_config(training=RUN | training), distributed, "rates", str(ds_config))
        return used, [row["lr"] for row in logged(folder, "train")]

    return run


def _training(**settings):
    """The section `training`, as far as a schedule reads it."""
    section = {"warmup_ratio": 0.5, "warmup_min": 0.0, "learning_rate": HIGH}
    return SimpleNamespace(**section | settings)


CASES = [
    pytest.param(kind, settings, rates, id=f"{kind}-{name}")
    for name, settings, table in (
        ("from zero", {}, FROM_ZERO),
        ("from warmup_min", {"warmup_min": LOW}, FROM_LOW),
        ("without warm-up", {"warmup_min": LOW, "warmup_ratio": 0.0}, NO_WARMUP),
    )
    for kind, rates in table.items()
]


@pytest.mark.parametrize(("kind", "settings", "rates"), CASES)
def test_every_update_has_the_rate_of_the_formula(rates_of, kind, settings, rates):
    """A schedule that counts batches or epochs for updates, or starts with updates at 0, trains another model.

    Of a short training's few updates each that is made at learning rate 0 is lost.
    """
    used, said = rates_of(warmup_type=kind, **settings)
    assert used == pytest.approx(rates, rel=1e-6)
    # what is logged with a step is what that step was made with
    assert said == pytest.approx(rates, rel=1e-6)


@pytest.mark.parametrize(("kind", "settings", "rates"), CASES)
def test_every_group_follows_the_schedule_at_its_own_height(kind, settings, rates):
    """A schedule of one rate for all lifts the parts that were to learn slowly to the rate of the others."""
    small = 1e-3  # of the learning rate
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(3)]
    groups = [{"params": [parameters[0]], "lr": HIGH * small}, {"params": parameters[1:]}]
    optimizer = torch.optim.Adam(groups, lr=HIGH)
    scheduler = make_scheduler(optimizer, _training(warmup_type=kind, **settings), len(rates))
    used = []
    for _ in rates:
        used.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    assert [whole for _, whole in used] == pytest.approx(rates, rel=1e-6)
    assert [part for part, _ in used] == pytest.approx([small * rate for rate in rates], rel=1e-6)


def test_without_a_schedule_the_rate_stays(rates_of):
    """A scheduler that nobody asked for."""
    used, _ = rates_of()
    assert used == [HIGH] * 6


@pytest.mark.parametrize("settings", [{}, {"warmup_min": LOW}, {"warmup_ratio": 0.0}, {"warmup_ratio": 1.0}])
@pytest.mark.parametrize("total", [1, 2, 5])
def test_a_linear_schedule_of_few_updates(settings, total):
    """A division by the length of a slope that is not there ends a short training, or makes a rate of it negative."""
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=HIGH)
    scheduler = make_scheduler(optimizer, _training(warmup_type="Linear", **settings), total)
    used = []
    for _ in range(total):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert all(0 < rate <= HIGH for rate in used)
    scheduler.step()  # past the end
    assert optimizer.param_groups[0]["lr"] == 0


def test_a_linear_schedule_goes_on_from_its_state(tmp_path):
    """A checkpoint with a function is a pickle of code; one without the step begins the rates anew."""
    rates = NO_WARMUP["Linear"]
    training = _training(warmup_type="Linear", warmup_ratio=0.0)
    optimizers = [torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=HIGH) for _ in range(2)]
    first, second = (make_scheduler(optimizer, training, len(rates)) for optimizer in optimizers)
    for _ in range(2):
        optimizers[0].step()
        first.step()
    states = {"optimizer": optimizers[0].state_dict(), "scheduler": first.state_dict()}
    torch.save(states, tmp_path / "states.pt")
    states = torch.load(tmp_path / "states.pt", weights_only=True)
    optimizers[1].load_state_dict(states["optimizer"])
    second.load_state_dict(states["scheduler"])
    used = []
    for _ in rates[2:]:
        used.append(optimizers[1].param_groups[0]["lr"])
        optimizers[1].step()
        second.step()
    assert used == pytest.approx(rates[2:], rel=1e-6)
