"""Encodes a dialogue file in several processes, which read it themselves: this process holds a few chunks at a time.

The processes are forked, as a reader and an encoder of any model type need not be picklable, which the `datasets`
library's own processes ask for. What they are asked for and what they answer goes through pipes.
"""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context

from dataset.dialogue import Example
from dataset.encoded import record_batch
from dataset.encoding import Encoder
from utils.errors import UserError

MOST = 8  # processes; each reads the whole file
CHUNK = 1000  # examples that are encoded together, about: a dialogue is not cut


@dataclass
class EncodingJob:
    """What is encoded, and how."""

    read: Callable[[], list[Example]]
    """gives the examples of the file"""
    encoder: Encoder
    with_response: bool
    """False gives the inference texts"""
    examples: list[Example] = field(default_factory=list)
    """what `read` gave, in the processes that encode"""


@dataclass(frozen=True)
class Chunk:
    """Encoded examples that stand side by side in the file."""

    num_examples: int
    """of the file"""
    rows: bytes
    """a record batch of dataset/encoded.py in Arrow's stream format"""


_job: EncodingJob | None = None  # in a process that encodes


def encoded_chunks(job: EncodingJob) -> Iterator[Chunk]:
    """The encoded examples of a file in its order, a chunk at a time.

    Raises:
        UserError: what is wrong with the file or an example; a process that encodes was ended from outside.
    """
    workers = min(MOST, len(os.sched_getaffinity(0)))
    with ProcessPoolExecutor(workers, get_context("fork"), _start, (job, os.getpid())) as pool:
        try:
            # one for each process, so that all of them read the file now
            starts = [pool.submit(_starts) for _ in range(workers)][0].result()
            waiting: deque[Future[Chunk]] = deque()
            for start, stop in zip(starts, starts[1:], strict=False):
                waiting.append(pool.submit(_encode, start, stop))
                if len(waiting) > 2 * workers:  # enough that none is idle, and memory has room for
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise UserError("a process that encodes was ended from outside (out of memory?)") from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _start(job: EncodingJob, parent: int) -> None:
    global _job
    _job = job
    # a library's threads do not outlive the fork, but it would wait for them
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, and that ends the others
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """A process whose parent was killed would wait for work for ever."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _examples() -> list[Example]:
    assert _job is not None
    if not _job.examples:
        _job.examples = _job.read()
    return _job.examples


def _starts() -> list[int]:
    return chunk_starts([example.dialogue for example in _examples()], CHUNK)


def chunk_starts(dialogues: Sequence[int], size: int) -> list[int]:
    """Where chunks of at least `size` examples begin, which cut no dialogue, and where the last one ends."""
    starts = [0]
    for place in range(1, len(dialogues)):
        if place - starts[-1] >= size and dialogues[place] != dialogues[place - 1]:
            starts.append(place)
    return [*starts, len(dialogues)]


def _encode(start: int, stop: int) -> Chunk:
    assert _job is not None
    examples = _examples()
    encoded = _job.encoder.encode(examples[start:stop], _job.with_response)
    return Chunk(len(examples), record_batch(encoded, start).serialize().to_pybytes())
