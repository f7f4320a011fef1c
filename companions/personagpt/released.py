"""What the release does otherwise in training: `model.fidelity: released_code`.

Beside this, in that mode: each turn of the data ends twice and an answer's first token is not trained (prompts.py), and
a batch's loss is a sum over its examples divided by `batch_size` (model.py).
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from utils.errors import UserError

CONTROL_DECAY = 0.01
"""weight decay of the stage `control`: the default of an optimiser that the release did not set"""
LOSS_NAMES = {"old": "ctrl_loss", "new": "persona_loss"}
"""the names of the losses of `control`: swapped"""


class WholeUpdates(Sampler[list[int]]):
    """Batches that are whole updates of `size` examples.

    What is left over at the end of an epoch has no update of its own: its gradient comes into the first update of the
    next epoch, and after the last epoch it is lost.

    Args:
        num_examples: n, at least `size`.
        size: examples of an update.
        order: (epoch) -> the order of the n examples.

    Raises:
        UserError: no update would ever be made.
    """

    last_is_repeat = False

    def __init__(self, num_examples: int, size: int, order: Callable[[int], Sequence[int]]) -> None:
        if num_examples < size:
            raise UserError(
                f"training.batch_size: {size} is more than the {num_examples} examples; fidelity: released_code would "
                "make no update"
            )
        self.whole, self.size, self.order = num_examples - num_examples % size, size, order
        self.set_epoch(0)

    def set_epoch(self, epoch: int, done: Sequence[Sequence[int]] = ()) -> None:
        """Choose the order of an epoch, counted from 0, without the batches that are done."""
        order = list(self.order(epoch))
        self.batches = [order[start : start + self.size] for start in range(0, self.whole, self.size)]
        if epoch:
            self.batches[0] = [*list(self.order(epoch - 1))[self.whole :], *self.batches[0]]
        self.batches = self.batches[sum(batches for _, batches in done) :]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        yield from self.batches


def shuffled(num_examples: int, seed: int, shuffle: bool) -> Callable[[int], Sequence[int]]:
    """(epoch) -> an order of n examples; the file's own without `shuffle`."""

    def order(epoch: int) -> Sequence[int]:
        if not shuffle:
            return range(num_examples)
        return np.random.default_rng([seed, epoch]).permutation(num_examples).tolist()

    return order
