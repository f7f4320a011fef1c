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
        batch_size: examples per batch and rank, at most.
        rank: this rank.
        world_size: number of ranks.
        seed: seed of the order.
        shuffle: False keeps the file's order, but for the grouping by length.
        whole_dialogues: keep a dialogue in one batch where it fits (`rows: dialogue`). Batches may then hold
            fewer examples; a dialogue longer than a batch is cut.

    Every example comes once per epoch, and every rank makes the same number of steps. Only when the last step
    has fewer examples than there are ranks are some of them repeated; a rank that repeats one there says so in
    `last_is_repeat`.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        dialogues: Sequence[int] | np.ndarray,
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
        self.starts = np.concatenate([[0], borders])  # units are examples that stand side by side
        self.stops = np.concatenate([borders, [len(self.lengths)]])
        self.longest = np.maximum.reduceat(self.lengths, self.starts)
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size
        self.seed, self.shuffle = seed, shuffle
        self.set_epoch(0)

    def set_epoch(self, epoch: int, done: Sequence[Sequence[int]] = ()) -> None:
        """Choose the order of epoch `epoch`, without what is done of it.

        Args:
            epoch: its number, from 0.
            done: (ranks, batches of each of them), one after another where the number of ranks changed.
        """
        generator = np.random.default_rng([self.seed, epoch])
        order = np.arange(len(self.starts))
        if self.shuffle:
            generator.shuffle(order)
        ranks = [ranks for ranks, _ in done] + [self.world_size]
        steps = self._dealt(self._filled(self._grouped(order, ranks[0])), ranks[0])
        places = np.arange(len(steps))  # neighbours are similar: ranks wait little
        if self.shuffle:
            generator.shuffle(places[:-1])  # the last step may be a short one, and stays last
        steps = [steps[place] for place in places]
        for (before, count), now in zip(done, ranks[1:], strict=True):
            steps = steps[count:]
            if now != before:
                flat = [batch for step in steps for batch in step]
                # an example of the last step that came twice, as there were more ranks than examples, comes once
                once = dict.fromkeys(tuple(batch) for batch in flat)
                steps = self._dealt([list(batch) for batch in once], now)
        self.batches = [step[self.rank] for step in steps]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        yield from self.batches

    def _grouped(self, order: np.ndarray, ranks: int) -> np.ndarray:
        """Sort units by length within pools of about _POOL global batches."""
        per_unit = max(1, len(self.lengths) // len(self.starts))
        pool = max(1, _POOL * self.batch_size * ranks // per_unit)
        parts = [order[start : start + pool] for start in range(0, len(order), pool)]
        return np.concatenate([part[np.argsort(self.longest[part], kind="stable")] for part in parts])

    def _filled(self, order: np.ndarray) -> list[list[int]]:
        """Fill batches with units, in order; a unit that does not fit any more begins the next batch."""
        batches: list[list[int]] = [[]]
        for first, stop in zip(self.starts[order].tolist(), self.stops[order].tolist(), strict=True):
            numbers = range(first, stop)
            for start in range(0, len(numbers), self.batch_size):
                piece = numbers[start : start + self.batch_size]
                if len(batches[-1]) + len(piece) > self.batch_size:
                    batches.append([])
                batches[-1].extend(piece)
        return batches

    def _dealt(self, batches: list[list[int]], ranks: int) -> list[list[list[int]]]:
        """Steps of a batch for each rank; the examples of the last step are dealt evenly, so that all have one."""
        if not batches:
            return []
        tail = len(batches) % ranks or ranks
        numbers = np.concatenate(batches[-tail:])
        self.last_is_repeat = self.rank >= len(numbers)
        numbers = np.resize(numbers, max(len(numbers), ranks))
        batches = batches[:-tail] + [part.tolist() for part in np.array_split(numbers, ranks)]
        return [batches[start : start + ranks] for start in range(0, len(batches), ranks)]
