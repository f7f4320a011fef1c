"""A training of thousands of steps takes the memory of its first ones, in training, validation, logs and saves."""

import gc
import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dataset.loading import load_batches
from models.task import Prepared
from tests.trainer.regression import Order, Points, Regression, regression_task
from trainer import training
from trainer.loop import Trainer

EXAMPLES, EPOCHS = 1000, 13  # 250 steps an epoch
WARM = 4  # epochs after which nothing may grow: allocators and caches have their size by then


class Long(Order):
    """Batches of 4 of many examples."""

    def __len__(self):
        return EXAMPLES // 4

    def __iter__(self):
        return iter([list(range(start, start + 4)) for start in range(0, EXAMPLES, 4)])


def _collate(numbers):
    indices = torch.tensor(numbers)
    inputs = torch.eye(3)[indices % 3]
    return Points(inputs, inputs.repeat(2, 1), indices)


class PerExample(Regression):
    """Gives a vector of each validation example, as a loss of the whole file asks for."""

    def forward(self, batch, progress=0.0):
        """As before."""
        output = super().forward(batch, progress)
        return output._replace(per_example=None if self.training else batch.inputs)


def _task(log_dir):
    def loader():
        return load_batches(range(EXAMPLES), _collate, 0, Long())

    settings = {"num_epochs": EPOCHS, "log_every": 20, "learning_rate": 1e-3}
    return replace(
        regression_task(log_dir, **settings),
        prepare=lambda distributed: Prepared(PerExample(), loader(), loader()),
    )


def _memory():
    """Bytes of this process, tensors, and other objects that the garbage collector knows, by type."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    objects = gc.get_objects()
    tensors = sum(isinstance(item, torch.Tensor) for item in objects)
    return pages * os.sysconf("SC_PAGE_SIZE"), tensors, Counter(type(item).__name__ for item in objects)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 2])
def test_thousands_of_steps_at_constant_memory(distributed, tmp_path, monkeypatch, stage):
    """A list that every step adds to ends a training of weeks by the system's killer, days after its start."""
    found = []
    end_epoch = Trainer._end_epoch

    def measuring(self, row):
        end_epoch(self, row)
        found.append((self.steps, *_memory()))

    monkeypatch.setattr(Trainer, "_end_epoch", measuring)
    ds_config = tmp_path / "ds.json"
    ds_config.write_text(json.dumps({"zero_optimization": {"stage": stage}}), encoding="utf-8")
    training.train(_task(str(tmp_path / "runs")), distributed, "long", str(ds_config))
    steps, size, tensors, objects = zip(*found[WARM - 1 :], strict=True)
    assert steps[-1] == EXAMPLES // 4 * EPOCHS > 3000
    assert len(set(tensors)) == 1, tensors
    grown = objects[-1] - objects[0]
    assert sum(grown.values()) < 50, grown.most_common(10)
    assert size[-1] - size[0] < 2 << 20, size
