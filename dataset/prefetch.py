"""The next batch is made while the current one is in use: labels and padding cost a training step nothing."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.utils.data import DataLoader


class PrefetchingLoader(DataLoader[Any]):
    """A DataLoader that stays one batch ahead without worker processes too, in a thread of this process.

    Order and contents of the batches are the DataLoader's. What makes them must not draw from the global random
    state, which the step does at the same time; with worker processes it could not either.
    """

    # the base class names a private class of its own
    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """One pass."""
        batches = super().__iter__()
        return batches if self.num_workers else _one_ahead(batches)


_END = object()


def _one_ahead(items: Iterator[Any]) -> Iterator[Any]:
    """The same items; the next one is made while the caller has the last. An error comes in its item's place."""
    with ThreadPoolExecutor(1, "batches", _use_device, _device()) as thread:
        following = thread.submit(next, items, _END)
        while (item := following.result()) is not _END:
            following = thread.submit(next, items, _END)
            yield item


def _device() -> tuple[int, ...]:
    return (torch.cuda.current_device(),) if torch.cuda.is_available() else ()


def _use_device(*device: int) -> None:
    # a new thread begins with device 0, where pinned memory would then take up room for every rank
    if device:
        torch.cuda.set_device(*device)
