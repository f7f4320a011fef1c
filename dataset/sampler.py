"""Which examples make up each batch: seeded, the same on every rank, like lengths together.

The order is a function of (seed, epoch) alone, so that a run can be repeated.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

_POOL = 50  # global batches that are sorted by length together: enough to save padding, few enough to shuffle


class BatchSampler(Sampler[list[int]]):
    """Batches of example numbers for one rank.

    Args:
        lengths: tokens of each example [n].
        dialogues: dialogue of each example [n], ascending.
        batch_size: examples per batch and rank.
        rank: this rank.
        world_size: number of ranks.
        seed: seed of the order.
        shuffle: False keeps the file's order, but for the grouping by length.
        whole_dialogues: keep the examples of one dialogue next to each other (`rows: dialogue`).

    Every example comes once per epoch. Only when the last global batch has fewer examples than ranks are
    some of its examples repeated, so that every rank makes the same number of steps.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        dialogues: Sequence[int],
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        shuffle: bool = True,
        whole_dialogues: bool = False,
    ) -> None:
        self.lengths = np.asarray(lengths)
        keys = np.asarray(dialogues) if whole_dialogues else np.arange(len(self.lengths))
        borders = np.flatnonzero(np.diff(keys)) + 1
        self.units = np.split(np.arange(len(self.lengths)), borders)
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size
        self.seed, self.shuffle, self.epoch = seed, shuffle, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of epoch `epoch`."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.lengths) // (self.batch_size * self.world_size))

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng([self.seed, self.epoch])
        units = np.arange(len(self.units))
        if self.shuffle:
            generator.shuffle(units)
        size = self.batch_size * self.world_size
        order = np.concatenate([self.units[unit] for unit in self._grouped(units, size)])
        batches = np.split(order, range(size, len(order), size))
        if self.shuffle:
            # the short batch, if there is one, stays last: all ranks then step the same number of times
            full = batches[:-1] if len(batches[-1]) < size else batches
            places = generator.permutation(len(full))
            batches = [batches[place] for place in places] + batches[len(full) :]
        for batch in batches:
            if len(batch) < self.world_size:
                batch = np.resize(batch, self.world_size)
            yield np.array_split(batch, self.world_size)[self.rank].tolist()

    def _grouped(self, units: np.ndarray, size: int) -> np.ndarray:
        """Sort by length within pools of about _POOL global batches."""
        per_unit = max(1, len(self.lengths) // len(self.units))
        pool = max(1, _POOL * size // per_unit)
        longest = np.array([self.lengths[self.units[unit]].max() for unit in units])
        pools = [np.arange(start, min(start + pool, len(units))) for start in range(0, len(units), pool)]
        return np.concatenate([units[part[np.argsort(longest[part], kind="stable")]] for part in pools])
