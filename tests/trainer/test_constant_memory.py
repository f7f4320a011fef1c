"""A training of thousands of steps takes the memory of its first ones, in training, validation, logs and saves."""

import ctypes
import gc
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

    def __init__(self, examples):
        super().__init__()
        self.examples = examples

    def __len__(self):
        return self.examples // 4

    def __iter__(self):
        return iter([list(range(start, start + 4)) for start in range(0, self.examples, 4)])


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
    def loader(examples):
        return load_batches(range(examples), _collate, 0, Long(examples))

    settings = {"num_epochs": EPOCHS, "log_every": 20, "learning_rate": 1e-3}
    return replace(
        regression_task(log_dir, **settings),
        prepare=lambda distributed: Prepared(PerExample(), loader(EXAMPLES), loader(EXAMPLES // 5)),
    )


def _memory():
    """Bytes of this process, tensors, and other objects that the garbage collector knows, by type."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the C library keeps for later is no leak
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    objects = gc.get_objects()
    tensors = sum(isinstance(item, torch.Tensor) for item in objects)
    return pages * os.sysconf("SC_PAGE_SIZE"), tensors, Counter(type(item).__name__ for item in objects)


@pytest.mark.slow
@pytest.mark.long
def test_thousands_of_steps_at_constant_memory(distributed, tmp_path, monkeypatch):
    """A list that every step adds to ends a training of weeks by the system's killer, days after its start."""
    found = []
    end_epoch = Trainer._end_epoch

    def measuring(self, row):
        end_epoch(self, row)
        if self.epoch in (WARM, (WARM + EPOCHS) // 2, EPOCHS):
            found.append((self.steps, *_memory()))

    monkeypatch.setattr(Trainer, "_end_epoch", measuring)
    training.train(_task(str(tmp_path / "runs")), distributed, "long")
    steps, size, tensors, objects = zip(*found, strict=True)
    assert steps[-1] == EXAMPLES // 4 * EPOCHS > 3000
    assert len(set(tensors)) == 1, tensors
    grown = objects[-1] - objects[0]
    # a module that some library imports late brings a few hundred, once
    assert sum(grown.values()) < (steps[-1] - steps[0]) / 5, grown.most_common(10)
    assert size[-1] - size[0] < 4 << 20, size  # 2 KB a step
