"""Two streams in one step: as many new examples, of action codes, as old ones, of dialogues.

One pass goes over the old examples. The new ones are few: they begin again in another order whenever they are used up.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from dataset.batch import Batch
from dataset.encoded import EncodedDataset
from dataset.encoding import EncodedExample
from dataset.loading import Ranks


@dataclass(frozen=True, slots=True)
class TwoStreams:
    """A batch of either stream, or of both."""

    old: Batch | None
    new: Batch | None

    @property
    def num_examples(self) -> int:
        """Of both streams."""
        return sum(part.num_examples for part in self.parts().values())

    @property
    def indices(self) -> Tensor:
        """[B] int64 places of the examples in the data set, which has the old ones first."""
        return torch.cat([part.indices for part in self.parts().values()])

    def parts(self) -> dict[str, Batch]:
        """The streams that it has, by name: "old", "new"."""
        streams = {"old": self.old, "new": self.new}
        return {name: part for name, part in streams.items() if part is not None}

    def to(self, device: torch.device | str) -> "TwoStreams":
        """The same batch on another device."""
        return self._mapped(lambda part: part.to(device))

    def pin_memory(self) -> "TwoStreams":
        """For the loader of a GPU."""
        return self._mapped(Batch.pin_memory)

    def _mapped(self, function: Callable[[Batch], Batch]) -> "TwoStreams":
        return TwoStreams(
            **{"old": None, "new": None, **{name: function(part) for name, part in self.parts().items()}}
        )


def joined(old: Sequence[EncodedExample], new: Sequence[EncodedExample]) -> list[EncodedExample]:
    """One data set of both streams, old examples first, its places and dialogues numbered throughout."""
    offset = 1 + max((example.dialogue for example in old), default=-1)
    moved = [dataclasses.replace(example, dialogue=offset + example.dialogue) for example in new]
    return [dataclasses.replace(example, index=index) for index, example in enumerate([*old, *moved])]


class StreamDataset(EncodedDataset):
    """The examples of `joined`; its length is that of one pass, in which new ones come again.

    Args:
        examples: of `joined`.
        num_old: how many of them are old.
    """

    def __init__(self, examples: Sequence[EncodedExample], num_old: int) -> None:
        super().__init__(examples)
        self.num_old = num_old

    def __len__(self) -> int:
        return 2 * self.num_old


@dataclass(frozen=True, slots=True)
class StreamCollator:
    """Makes a batch of examples of `joined`.

    Args:
        collate: makes the batch of one stream.
        num_old: how many of the data set's examples are old.
    """

    collate: Callable[[Sequence[EncodedExample]], Batch]
    num_old: int

    def train(self, examples: Sequence[EncodedExample]) -> TwoStreams:
        """Examples with a place below `num_old` are the old stream."""
        old = [example for example in examples if example.index < self.num_old]
        new = [example for example in examples if example.index >= self.num_old]
        return TwoStreams(self.collate(old) if old else None, self.collate(new) if new else None)


class StreamSampler(Sampler[list[int]]):
    """The batches of a sampler of old examples, each with as many new ones.

    Args:
        old: gives the batches of old examples of this rank.
        num_old: how many of the data set's examples are old; the new ones follow.
        new_order: (epoch) -> endless places among the new examples, for this rank.
    """

    last_is_repeat = False

    def __init__(self, old: Any, num_old: int, new_order: Callable[[int], Iterator[int]]) -> None:
        self.old, self.num_old, self.new_order = old, num_old, new_order
        self.set_epoch(0)

    def set_epoch(self, epoch: int, done: Sequence[Sequence[int]] = ()) -> None:
        """Choose the order of an epoch, counted from 0, without what is done of it; see `BatchSampler`."""
        self.old.set_epoch(epoch)
        whole = sum(map(len, self.old.batches))
        self.old.set_epoch(epoch, done)
        # as many new ones are done as old ones; by another number of ranks: this one's share of them
        new = islice(self.new_order(epoch), whole - sum(map(len, self.old.batches)), None)
        self.batches = [[*batch, *(self.num_old + next(new) for _ in batch)] for batch in self.old]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        yield from self.batches


def recycled(
    num_examples: int, seed: int, ranks: Ranks | None = None, shuffle: bool = True
) -> Callable[[int], Iterator[int]]:
    """(epoch) -> pass after pass over n examples, each in another order; the ranks take turns.

    Args:
        num_examples: n, at least 1.
        seed: of the orders, which are the same on every rank.
        ranks: this process among all; the default is one process.
        shuffle: False keeps the order of the data.
    """
    ranks = ranks or Ranks()

    def endless(epoch: int) -> Iterator[int]:
        place, taken = 0, 0
        while True:
            order = np.arange(num_examples)
            if shuffle:
                np.random.default_rng([seed, epoch, taken]).shuffle(order)
            for number in order.tolist():
                if place % ranks.world_size == ranks.rank:
                    yield number
                place += 1
            taken += 1

    return endless
