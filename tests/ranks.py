"""Several ranks in one process, for what they exchange as plain values: no imports and no process group for each.

Ranks are threads of which one runs at a time, up to its next exchange, so that what is not made for threads works.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from utils.distributed import DistributedContext

T = TypeVar("T")


class _Exchange:
    def __init__(self, size: int) -> None:
        self.turn, self.barrier = threading.Lock(), threading.Barrier(size)
        self.values: list[Any] = [None] * size

    def gather(self, rank: int, value: Any) -> list[Any]:
        self.values[rank] = value
        self.turn.release()
        try:
            self.barrier.wait()
            values = list(self.values)
            self.barrier.wait()  # before anybody writes the next ones
        finally:
            self.turn.acquire()
        return values


@dataclass(frozen=True)
class _Rank(DistributedContext):
    exchange: _Exchange

    def gather(self, value: Any) -> list[Any]:
        """As for processes."""
        return self.exchange.gather(self.rank, value)

    def share(self, value: Any) -> Any:
        """As for processes."""
        return self.gather(value)[0]

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """As for processes."""
        shares = self.gather(tensor.clone())
        return tensor.copy_(sum(shares[1:], start=shares[0]))

    def barrier(self) -> None:
        """As for processes."""
        self.gather(None)


def on_ranks(size: int, job: Callable[[DistributedContext], T]) -> list[T]:
    """What a job gives on each of several ranks; the error of the first that fails with one of its own is raised."""
    exchange, results, errors = _Exchange(size), {}, {}

    def run(rank: int) -> None:
        with exchange.turn:
            try:
                results[rank] = job(_Rank(rank, rank, size, torch.device("cpu"), exchange))
            except BaseException as error:
                errors[rank] = error
                exchange.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    own = [error for error in errors.values() if not isinstance(error, threading.BrokenBarrierError)]
    if own:
        raise own[0]
    return [results[rank] for rank in range(size)]
