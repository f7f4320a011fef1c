"""The validation loss: the same for the same weights, however the file is cut into batches, ranks and rows."""

from collections.abc import Callable
from typing import Any

import deepspeed
import torch
from torch import Tensor

from models.task import BatchLoader
from models.trainable import StepOutput
from trainer.logs import Tally
from utils.distributed import DistributedContext


@torch.no_grad()
def validate(
    engine: deepspeed.DeepSpeedEngine,
    loader: BatchLoader,
    distributed: DistributedContext,
    advance: Callable[[int], Any] = lambda examples: None,
    note: Callable[[Any, StepOutput], Any] = lambda batch, output: None,
) -> dict[str, Any]:
    """One pass over a validation file in evaluation mode.

    Args:
        engine: around a `Trainable`.
        loader: this rank's batches; each example once over all ranks.
        distributed: the processes; all of them must call it.
        advance: told the number of examples that all ranks have done since the last time.
        note: told each batch of this rank with its losses.

    Returns:
        A row as `Tally.read` gives it.
    """
    engine.eval()
    module, examples = engine.module, loader.dataset
    tally, outputs = Tally(module.reducers), FileOutputs(len(examples))
    for number, batch in enumerate(loader, start=1):
        repeated = number == len(loader) and loader.batch_sampler.last_is_repeat
        count = 0 if repeated else batch.num_examples
        output = engine(batch.to(distributed.device), 0.0)
        note(batch, output)
        tally.add(output, count)
        if output.per_example is not None:
            outputs.add(batch.indices[:count], output.per_example[:count])
        advance(count * distributed.size)
    collected = outputs.read(distributed)
    whole = {} if collected is None else module.file_losses(collected, examples)
    return tally.read(distributed, module.total_loss, {name: loss.item() for name, loss in whole.items()})


class FileOutputs:
    """Collects a vector of every example of a file from all batches of all ranks.

    Args:
        size: n, examples of the file.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.rows: Tensor | None = None  # [n, F + 1]; the last column counts how often the example came

    def add(self, indices: Tensor, values: Tensor) -> None:
        """Add examples [B] with their vectors [B, F]; B may be 0."""
        if self.rows is None:
            self.rows = values.new_zeros(self.size, values.shape[1] + 1, dtype=torch.float32)
        ones = values.new_ones(len(values), 1)
        self.rows.index_add_(0, indices.to(values.device), torch.cat([values, ones], dim=1).float())

    def read(self, distributed: DistributedContext) -> Tensor | None:
        """The vectors [n, F] in the order of the file, on every rank; None when nothing was ever added.

        Raises:
            RuntimeError: an example came twice, or never: a loss of the file would be another file's.
        """
        if self.rows is None:
            return None
        rows = distributed.sum(self.rows.clone())
        if not bool((rows[:, -1] == 1).all()):
            raise RuntimeError("an example of the validation file came twice, or never")
        return rows[:, :-1]
