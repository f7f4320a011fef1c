"""Kills a process at a chosen moment, so that a test can show that nothing is lost.

A job is a function without arguments. It runs in a process of its own, forked from this one or from a server that has
imported what the job needs: no imports for each of fifty kills. What it prints goes to a file.

    ending = run_killed(lambda: decode_runs([run], alone()), Moment("models.decoding.decode:generate_replies", 3))
    assert ending.killed
    run_job(lambda: decode_runs([run], alone()))
"""

import multiprocessing
import os
import pkgutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

Method = Literal["fork", "forkserver"]
"""forkserver: for jobs that make a process group, which no forked copy of one may use; a job is then to be found by its
name in a module, with arguments by functools.partial"""

PRELOAD = ["tests.helpers", "models.decoding.decode", "trainer.training"]
"""what the server imports, once for each process of pytest"""


@dataclass(frozen=True)
class Moment:
    """When a job is killed: just before or just after a call of a function."""

    function: str
    """`package.module:name` or `package.module:Class.name`, where the code under test looks it up"""
    call: int = 1
    """which call of it, from 1 on"""
    after: bool = False
    signal: int = signal.SIGKILL

    def arm(self) -> None:
        """From now on this process ends at the moment."""
        module, _, name = self.function.partition(":")
        *classes, name = name.split(".")
        owner: Any = pkgutil.resolve_name(":".join([module, *classes]))
        function, calls = getattr(owner, name), 0

        def counted(*arguments: Any, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == self.call and not self.after:
                os.kill(os.getpid(), self.signal)
            result = function(*arguments, **more)
            if calls == self.call and self.after:
                os.kill(os.getpid(), self.signal)
            return result

        setattr(owner, name, counted)


@dataclass(frozen=True)
class Ending:
    """How a job ended, and what it printed."""

    status: int
    """exit status; below 0: minus the signal that killed it"""
    printed: str

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.status == -signal.SIGKILL


def run_killed(job: Callable[[], object], moment: Moment | None, method: Method = "fork") -> Ending:
    """Run a job until a moment, or to its end where it does not come.

    Args:
        job: what is run.
        moment: when it is killed; None: never.
        method: how its process is made.
    """
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(PRELOAD)
    with tempfile.NamedTemporaryFile() as output:
        process = context.Process(target=_run, args=(job, moment, output.name))
        process.start()
        process.join()
        status = process.exitcode
        assert status is not None
        return Ending(status, Path(output.name).read_text(encoding="utf-8", errors="replace"))


def run_job(job: Callable[[], object], method: Method = "fork") -> str:
    """Run a job to its end in the same kind of process, so that its results may be compared; what it printed."""
    ending = run_killed(job, None, method)
    assert ending.status == 0, ending.printed
    return ending.printed


def _run(job: Callable[[], object], moment: Moment | None, output: str) -> None:
    """The process of a job."""
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    # what pytest captures is not this process's
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    torch.set_num_threads(1)
    try:
        if moment is not None:
            moment.arm()
        job()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    else:
        status = 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # without the exit handlers of the process that this one was forked from
