"""The processes that encode: in the file's order, and gone when whoever started them is."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from dataset.encoding_processes import chunk_starts
from tests.progress import hear_interrupts

ROOT = Path(__file__).resolve().parent.parent.parent
WAIT = 30.0  # seconds; only a failing test waits so long

# each process says who it is, then encodes for ever
ENDLESS = """
import os, sys, time
from dataset.encoding_processes import EncodingJob, encoded_chunks
from utils.errors import run_main

class Example:
    dialogue = 0

class Endless:
    def encode(self, examples, with_response):
        print(os.getpid(), flush=True)
        while not os.path.exists(sys.argv[1]):
            time.sleep(0.1)
        raise ValueError("stopped")

run_main(lambda: list(encoded_chunks(EncodingJob(lambda: [Example()], Endless(), True))) and None)
"""


def _is_alive(process: int) -> bool:
    """Whether a process runs; one that has ended and is asked for by nobody does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def endless(tmp_path):
    """A program that encodes without end, a process of its own that does it, and a file that stops it."""
    program = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(tmp_path / "stop")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hear_interrupts,
    )
    assert program.stdout is not None
    worker = int(program.stdout.readline())
    yield program, worker, tmp_path / "stop"
    with suppress(ProcessLookupError):  # those that it started are of its group
        os.killpg(program.pid, signal.SIGKILL)
    program.communicate()


def test_processes_end_with_the_one_that_started_them(endless):
    """After a kill, as of a rank that took too much memory, they would hold its memory and sockets for ever."""
    program, worker, _ = endless
    program.kill()
    program.wait()
    last = time.monotonic() + WAIT
    while _is_alive(worker) and time.monotonic() < last:
        time.sleep(0.1)
    assert not _is_alive(worker)


def test_ctrl_c_is_one_word(endless):
    """The terminal sends it to all processes: eight tracebacks would hide what happened."""
    program, worker, stop = endless
    os.killpg(program.pid, signal.SIGINT)
    time.sleep(0.5)
    assert _is_alive(worker)  # it waits to be told
    stop.touch()
    _, said = program.communicate(timeout=WAIT)
    assert said == "interrupted\n"
    assert program.returncode == 130


@pytest.mark.parametrize(
    ("dialogues", "starts"),
    [
        ([0, 0, 1, 1, 2, 2], [0, 2, 4, 6]),
        ([0, 0, 0, 1, 2, 2], [0, 3, 6]),
        ([0, 1, 2], [0, 2, 3]),
        ([0, 0, 0], [0, 3]),
    ],
)
def test_chunks_cut_no_dialogue(dialogues, starts):
    """The texts of a dialogue that is cut would be read twice."""
    assert chunk_starts(dialogues, 2) == starts
