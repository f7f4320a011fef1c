"""Running a program for as long as it makes progress: a slow machine is no failure, a process that hangs is one."""

import contextlib
import math
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

STILL = 120.0  # seconds in which nothing moves, after which a program hangs
WORK = (
    0.02  # share of one CPU over that time that counts as work; ranks that wait for each other take a quarter
)
POLL = 0.5
GOODBYE = 10.0  # seconds that an interrupted program has to end what it started


class Hangs(Exception):
    """A program that neither worked nor wrote for too long. The message holds what it had written."""


class TooSlow(Exception):
    """A program that had not ended at its limit."""


def run_while_it_moves(
    command: Sequence[str],
    stdin: str = "",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    still: float = STILL,
    limit: float = math.inf,
) -> subprocess.CompletedProcess[str]:
    """Run `command` to its end, as long as it computes, writes, or starts processes.

    Args:
        command: program and arguments.
        stdin: its standard input.
        cwd: where it runs.
        env: its environment; the own one by default.
        still: seconds without progress after which it is ended, with all processes that it started.
        limit: seconds after which it is interrupted in any case, as by Ctrl-C, so that it can end what it started.

    Raises:
        Hangs: it was ended.
        TooSlow: it was interrupted.
    """
    with (
        tempfile.TemporaryFile("w+") as given,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        given.write(stdin)
        given.seek(0)
        # files, not pipes: nobody has to read them for the program to go on
        process = subprocess.Popen(
            command,
            stdin=given,
            stdout=out,
            stderr=err,
            cwd=cwd,
            env=env,
            start_new_session=True,
            preexec_fn=hear_interrupts,
        )
        try:
            hung = not _ends(process, (out.fileno(), err.fileno()), still, limit)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    if hung:
        raise Hangs(f"nothing moved for {still:.0f} s in {' '.join(command)}\n{texts[0]}\n{texts[1]}")
    return subprocess.CompletedProcess(command, process.returncode, *texts)


def hear_interrupts() -> None:
    """In a new process: interrupts end it, though a shell that runs the tests in the background has them ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _ends(process: subprocess.Popen, outputs: Sequence[int], still: float, limit: float) -> bool:
    """Wait for the end; False when nothing moved for `still` seconds before it."""
    latest = time.monotonic() + limit
    # ticks; also a process that ended, with its share, is a move
    enough = WORK * still * os.sysconf("SC_CLK_TCK")
    seen, written, since = _ticks(process.pid), 0, time.monotonic()
    while True:
        try:
            process.wait(min(POLL, max(latest - time.monotonic(), 0)))
        except subprocess.TimeoutExpired:
            pass
        else:
            return True
        if time.monotonic() >= latest:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GOODBYE)
            raise TooSlow(f"took more than {limit:.0f} s")
        ticks, bytes_now = _ticks(process.pid), sum(os.fstat(file).st_size for file in outputs)
        if abs(ticks - seen) >= enough or bytes_now != written:
            seen, written, since = ticks, bytes_now, time.monotonic()
        elif time.monotonic() - since > still:
            return False


def _ticks(session: int) -> int:
    """CPU time of all processes of a session, in clock ticks; 0 where there is no /proc."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()  # from the state on, which follows the name
        except OSError:
            continue  # it has ended meanwhile
        if int(fields[3]) == session:
            total += int(fields[11]) + int(fields[12])
    return total
