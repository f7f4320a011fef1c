"""A rank that fails or dies is named to the others, which then end too instead of waiting in a collective.

Every rank has a thread with a connection of its own to the store of the process group. It counts a number up,
looks whether the number of the next rank still moves, and reads what a rank wrote there before it failed. A
killed rank is found by gloo at once, as a connection error, and by the numbers where a collective would wait.
"""

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TypeVar

from torch.distributed import PrefixStore, TCPStore

from utils.distributed import DistributedContext, end_distributed, start_distributed
from utils.errors import UserError, first_line, printable

T = TypeVar("T")
INTERVAL = 1.0  # seconds between two looks
PATIENCE = 120  # looks without a sign of life; a live process may be busy for long, in a step that holds Python's lock
SHORT_PATIENCE = 5  # the same once a collective has failed on some rank
STORE_GONE = "rank 0 is gone, and with it the store of the processes"


@contextmanager
def distributed_context(local_rank: int = -1) -> Iterator[DistributedContext]:
    """The processes of this run, see `start_distributed`; when one of them dies in the body, all of them end."""
    distributed = start_distributed(local_rank)
    if distributed.size == 1:
        try:
            yield distributed
        finally:
            end_distributed()
        return
    thread = LivenessThread(distributed.rank, distributed.size)
    thread.start()
    try:
        yield distributed
    except BaseException as error:
        thread.fail(error)
        raise  # without leaving the group, which would wait for work that cannot end
    thread.leave()
    end_distributed()


@contextmanager
def together(distributed: DistributedContext) -> Iterator[None]:
    """What fails in the body on one rank fails on all of them. The body may hold no collective.

    Raises:
        UserError: which ranks failed, and why. With one rank: the exception as it is.
    """
    error = None
    try:
        yield
    except Exception as caught:
        if distributed.size == 1:
            raise
        error = caught
    reasons = distributed.gather(None if error is None else reason_of(error))
    failed = [f"rank {rank}: {reason}" for rank, reason in enumerate(reasons) if reason is not None]
    if error is not None and not isinstance(error, UserError):
        traceback.print_exception(error)  # a defect of the project keeps its traceback
    if failed:
        raise UserError("; ".join(failed)) from error


def main_first(distributed: DistributedContext, make: Callable[[], T], in_turns: bool = True) -> T:
    """What `make` gives on each rank, where the first one leaves a file that the others then find.

    First comes the main process, then one of each other node, whose disk may be its own, then all others. What
    fails on one rank fails on all of them, see `together`; so `make` may hold no collective. Where no file is left,
    they need not wait for one another: `in_turns` is False.
    """
    mine = 0 if distributed.is_main or not in_turns else 1 if distributed.local_rank == 0 else 2
    made: list[T] = []
    for turn in range(3):
        with together(distributed):
            if turn == mine:
                made.append(make())
    return made[0]


def reason_of(error: BaseException) -> str:
    """One line on an exception."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {first_line(error)}"


class LivenessThread(threading.Thread):
    """Ends this process when another rank has failed or is gone.

    Args:
        rank: this rank.
        size: number of ranks.
    """

    def __init__(self, rank: int, size: int) -> None:
        super().__init__(name="liveness", daemon=True)
        self.rank, self.size = rank, size
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(host, port, wait_for_workers=False, timeout=timedelta(minutes=1))
        # a launcher that starts a failed job again may keep the store
        self.store = PrefixStore(f"liveness/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        self.stopped = threading.Event()
        self.looks, self.misses, self.seen = 0, 0, (-1, -1)

    def run(self) -> None:
        """Look until all others have left, or one of them is lost."""
        try:
            while not self.stopped.wait(INTERVAL) and self._look():
                pass
        except RuntimeError:  # of the store
            if not self.stopped.is_set():
                self._end(STORE_GONE)

    def leave(self) -> None:
        """This rank is done. Rank 0 waits for the others, as the store ends with it."""
        if self.rank:
            self.stopped.set()
            self.join()
        try:
            self.store.set(f"left/{self.rank}", "")
        except RuntimeError:
            self._end(STORE_GONE)
        if not self.rank:
            self.join()

    def fail(self, error: BaseException) -> None:
        """This rank ends by an exception; where another rank was lost before, its line comes instead."""
        if isinstance(error, RuntimeError):  # perhaps of a collective that lost a rank
            with suppress(RuntimeError):
                self.store.set("suspicion", "")
            last = self.looks + 2 * SHORT_PATIENCE
            while self.is_alive() and self.looks < last:
                self.join(INTERVAL)
        self.stopped.set()
        with suppress(RuntimeError):
            mine = f"rank {self.rank} failed: {reason_of(error).splitlines()[0]}"
            if self.store.compare_set("failed", "", mine).decode() == mine and self.rank == 0:
                time.sleep(2 * INTERVAL)  # the others read it before the store is gone

    def _look(self) -> bool:
        """One look; False when nobody is left to look at."""
        self.looks += 1
        self.store.add(f"beat/{self.rank}", 1)
        if self.store.check(["failed"]):
            self._end(self.store.get("failed").decode())
        others = ((self.rank + step) % self.size for step in range(1, self.size))
        other = next((rank for rank in others if not self.store.check([f"left/{rank}"])), None)
        if other is None:
            return False
        now = other, self.store.add(f"beat/{other}", 0)
        self.misses = self.misses + 1 if now == self.seen else 0
        self.seen = now
        if self.misses >= (SHORT_PATIENCE if self.store.check(["suspicion"]) else PATIENCE):
            gone = f"rank {other} is gone without a word (killed, or out of memory?)"
            self._end(self.store.compare_set("failed", "", gone).decode())
        return True

    def _end(self, reason: str) -> None:
        sys.stdout.flush()
        # the main thread may wait in a collective for ever: no exception reaches it there
        print(f"\nerror: {printable(reason)}; rank {self.rank} ends too", file=sys.stderr, flush=True)
        os._exit(1)
