"""SIGTERM: the training saves at its next step, and ends; all ranks at the same one."""

import signal
import threading
from types import TracebackType
from typing import Any

import torch

from utils.distributed import DistributedContext


class StopRequest:
    """Whether any process was asked to end; a context in which SIGTERM only asks.

    The ranks are told at different times, DeepSpeed's launcher even waits for one to end before it tells the next.
    So they exchange it, beside the work of a step, which costs no waiting.

    Args:
        distributed: the processes.
    """

    def __init__(self, distributed: DistributedContext) -> None:
        self.distributed = distributed
        self.is_asked = False
        self._exchange: tuple[Any, torch.Tensor] | None = None
        self._old: Any = None

    def agreed(self) -> bool:
        """Whether all ranks are to stop here; all of them call it equally often, once before they may stop."""
        if self.distributed.size == 1:
            return self.is_asked
        before = self._exchange
        flag = torch.tensor([int(self.is_asked)], device=self.distributed.device)
        self._exchange = torch.distributed.all_reduce(flag, async_op=True), flag
        if before is None:
            return False
        work, sum_ = before
        work.wait()
        return bool(sum_.item())

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # others may not set one
            self._old = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._old is not None:
            signal.signal(signal.SIGTERM, self._old)
        if self._exchange is not None and error is None:
            self._exchange[0].wait()

    def _ask(self, *_: Any) -> None:
        self.is_asked = True
