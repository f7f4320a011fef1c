"""What the tests of training share: encoded examples of id pairs, a task on fixed orders, the golden LM."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from companions.personagpt import register_personagpt
from companions.personagpt.settings import PersonaConfig
from dataset.batch import Batch, Collator
from dataset.encoding import EncodedExample
from dataset.loading import EncodedDataset
from models.configuration import build_config
from models.task import Prepared, Task
from models.trainable import Trainable
from tests.companions.personagpt.golden import GOLDEN

PAD = 50256


def golden_config(log_dir: Path | str = "unused", **sections: dict[str, Any]) -> PersonaConfig:
    """A configuration on the golden LM, logging every update and keeping nothing."""
    register_personagpt()
    base = {
        "model": {"model_type": "personagpt", "model_name": str(GOLDEN / "lm")},
        "training": {
            "log_dir": str(log_dir),
            "log_every": 1,
            "save_model": False,
            "grad_clip": 1.0,
            "warmup_type": "Linear",
            "warmup_ratio": 0.0,
        },
        "dataset": {"actions": "actions.jsonl"},
    }
    config = build_config([("golden", base), ("test", sections)])
    assert isinstance(config, PersonaConfig)
    return config


def encoded(pairs: Sequence[Sequence[Sequence[int]]], first_token: bool = True) -> list[EncodedExample]:
    """Examples of (prompt ids, answer ids); `first_token`: whether the answer's first one is a target."""
    examples = []
    for index, (prompt, answer) in enumerate(pairs):
        ids = np.array([*prompt, *answer], dtype=np.int32)
        targets = ((len(prompt) + (not first_token), len(ids)),)
        examples.append(EncodedExample(ids, len(prompt), targets, "", index, index))
    return examples


class FixedOrder(Sampler[list[int]]):
    """The batches of each epoch, as they are given."""

    last_is_repeat = False

    def __init__(self, epochs: Sequence[Sequence[Sequence[int]]]) -> None:
        self.epochs = epochs
        self.set_epoch(0)

    def set_epoch(self, epoch: int, done: Sequence[Sequence[int]] = ()) -> None:
        """The batches of this epoch."""
        self.batches = self.epochs[epoch][sum(batches for _, batches in done) :]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self):
        yield from self.batches


def groups(order: Sequence[int], size: int, whole: bool) -> list[list[int]]:
    """An order cut into groups; `whole` leaves a smaller last one out."""
    parts = [list(order[start : start + size]) for start in range(0, len(order), size)]
    return parts[:-1] if whole and len(parts[-1]) < size else parts


def fixed_task(
    config: PersonaConfig,
    module: Trainable,
    examples: Sequence[EncodedExample],
    sampler: Any,
    collate: Callable[[Sequence[EncodedExample]], Any] | None = None,
) -> Task:
    """A task on given batches; the first example is validated on."""
    collate = collate or Collator(PAD).train
    train = DataLoader(EncodedDataset(examples), batch_sampler=sampler, collate_fn=collate)
    first = FixedOrder([[[0]]] * config.training.num_epochs)
    valid = DataLoader(EncodedDataset(examples), batch_sampler=first, collate_fn=collate)
    return Task(config, lambda distributed: Prepared(module, train, valid), config.model.load_bit)


def loss_and_gradients(module: Trainable, batch: Batch) -> tuple[float, dict[str, torch.Tensor]]:
    """The total loss of a batch, and its gradient by parameter."""
    module.zero_grad()
    total = module(batch).total
    total.backward()
    gradients = {
        name: value.grad.clone() for name, value in module.named_parameters() if value.grad is not None
    }
    return total.item(), gradients
