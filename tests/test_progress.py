"""How the tests judge a program: by whether it moves, not by how long it takes."""

import sys
import time

import pytest

from tests import progress
from tests.progress import Hangs, TooSlow, run_while_it_moves

STILL = 2.0


def test_a_program_that_ends_is_reported_whole():
    """Output that is lost on the way would make every test of a command's output worthless."""
    script = "import sys; print(sys.stdin.read().upper()); print('e', file=sys.stderr); sys.exit(3)"
    done = run_while_it_moves([sys.executable, "-c", script], "said")
    assert (done.returncode, done.stdout, done.stderr) == (3, "SAID\n", "e\n")


WRITE = "print('.', flush=True); time.sleep(0.3)"
COMPUTE = "end = time.process_time() + 0.3\n while time.process_time() < end: pass"


@pytest.mark.slow
@pytest.mark.parametrize("step", [WRITE, COMPUTE], ids=["writing", "computing"])
def test_a_slow_program_is_left_alone(step):
    """On a loaded machine a limit by the clock ends programs that only had to wait for their turn."""
    script = f"import time\nfor _ in range(10):\n {step}"
    assert run_while_it_moves([sys.executable, "-c", script], still=STILL).returncode == 0


@pytest.mark.slow
def test_a_program_that_hangs_is_ended_with_its_children(tmp_path):
    """A rank that waits for another for ever would stop the tests, and its processes would stay behind."""
    beat = tmp_path / "beat"
    child = f"import time\nwhile True: open({str(beat)!r}, 'a').write('x'); time.sleep(0.2)"
    script = (
        "import subprocess, sys, time; print('before', flush=True); "
        f"subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(1e6)"
    )
    with pytest.raises(Hangs, match=r"nothing moved for 2 s in [\s\S]*before"):
        run_while_it_moves([sys.executable, "-c", script], still=STILL)
    written = beat.stat().st_size
    time.sleep(2)
    assert beat.stat().st_size == written


@pytest.mark.slow
def test_without_proc_output_still_counts(monkeypatch):
    """Where the system does not tell CPU time, a program that writes must not be ended."""
    monkeypatch.setattr(progress, "_ticks", lambda session: 0)
    script = "import time\nfor _ in range(10): print('.', flush=True); time.sleep(0.3)"
    assert run_while_it_moves([sys.executable, "-c", script], still=STILL).returncode == 0


def test_a_program_over_its_limit_is_interrupted_and_ends_what_it_started(tmp_path):
    """One slow part would take the time of all others, and its processes would go on beside them."""
    ended = tmp_path / "ended"
    script = (
        "import time\ntry:\n while True: print('.', flush=True); time.sleep(0.1)\n"
        f"finally: open({str(ended)!r}, 'w').close()"
    )
    with pytest.raises(TooSlow, match="took more than 2 s"):
        run_while_it_moves([sys.executable, "-c", script], limit=2)
    assert ended.exists()
