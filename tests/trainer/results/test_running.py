"""Jobs of `make results`: in order, each once, and on from where they were stopped."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer.results.jobs import Command, Job
from trainer.results.running import RECORD, Running, read_record
from utils.errors import UserError


def job(name: str, *commands: Command, after: tuple[str, ...] = (), minutes: float = 1.0) -> Job:
    """A job of given commands."""
    return Job(name, lambda: iter(commands), after, minutes)


def writes(path: Path, text: str = "x") -> Command:
    """Appends to a file."""
    return ("-c", f"open({str(path)!r}, 'a').write({text!r})")


def test_a_job_that_is_done_is_not_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Were a finished training done again, a call after an interruption would take as long as the first."""
    jobs = [job("a", writes(tmp_path / "a.txt"), writes(tmp_path / "a.txt"))]
    Running(jobs, tmp_path / "runs", 1).run()
    Running(jobs, tmp_path / "runs", 1).run()
    assert (tmp_path / "a.txt").read_text() == "xx"
    assert "1 of 1 jobs are done; nothing is left" in capsys.readouterr().out
    record = json.loads((tmp_path / "runs" / "a" / RECORD).read_text())
    assert record["seconds"] > 0
    assert record["processor_seconds"] > 0
    assert [command[0] for command in record["commands"]] == ["python", "python"]


def test_a_job_waits_for_those_that_it_reads(tmp_path: Path) -> None:
    """A decoding that begins beside its training finds no run folder, and hours end in an error."""
    log = tmp_path / "log.txt"
    slow = ("-c", f"import time; time.sleep(0.3); open({str(log)!r}, 'a').write('first ')")
    jobs = [job("second", writes(log, "second"), after=("first",)), job("first", slow)]
    Running(jobs, tmp_path / "runs", 2).run()
    assert log.read_text() == "first second"


def test_a_later_command_is_made_when_the_earlier_one_has_ended(tmp_path: Path) -> None:
    """The name of a run folder, and the learning rate that was chosen, are not known before."""
    made = tmp_path / "made.txt"

    def commands() -> Iterator[Command]:
        yield writes(made, "name")
        yield writes(tmp_path / made.read_text())

    Running([Job("a", commands, (), 1.0)], tmp_path / "runs", 1).run()
    assert (tmp_path / "name").exists()


def test_a_command_that_fails_is_named_with_its_log(tmp_path: Path) -> None:
    """A failure that is taken for an end would leave a table with wrong figures; one without its log, a riddle."""
    jobs = [
        job("a", ("-c", "print('why it failed'); raise SystemExit(3)")),
        job("b", writes(tmp_path / "b"), after=("a",)),
    ]
    with pytest.raises(UserError, match=r"ended with status 3; see .*log\.txt"):
        Running(jobs, tmp_path / "runs", 1).run()
    assert "why it failed" in (tmp_path / "runs" / "a" / "log.txt").read_text()
    assert not (tmp_path / "b").exists()
    assert "seconds" not in read_record(tmp_path / "runs" / "a")


def test_stopping_lets_commands_save_and_counts_their_time(tmp_path: Path) -> None:
    """Ctrl-C that kills trainings outright loses what they have learned since their last checkpoint."""
    saved, begun = tmp_path / "saved.txt", tmp_path / "begun.txt"
    code = (
        "import pathlib, signal, sys, time\n"
        f"def save(*_):\n    pathlib.Path({str(saved)!r}).write_text('kept'); sys.exit(143)\n"
        f"signal.signal(signal.SIGTERM, save); pathlib.Path({str(begun)!r}).write_text(''); time.sleep(60)"
    )
    running = Running([job("a", ("-c", code))], tmp_path / "runs", 1)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            running.run()
        except UserError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not begun.exists():
        time.sleep(0.01)
    running.stop()
    thread.join()
    assert saved.read_text() == "kept"
    assert errors
    assert read_record(tmp_path / "runs" / "a")["so_far"] > 0


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    """A traceback of the JSON parser does not say which folder is to be removed."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / RECORD).write_text("{")
    with pytest.raises(UserError, match=r"job\.json: cannot be read .* remove the folder"):
        Running([job("a")], tmp_path, 1).run()


def test_the_time_left_is_of_this_machine(tmp_path: Path) -> None:
    """The plan's minutes are of another machine; what the jobs have taken here says how much faster or slower it is."""
    jobs = [job("a", minutes=2.0), job("b", minutes=10.0)]
    running = Running(jobs, tmp_path, 2)
    assert running.left(jobs, {"a": {}, "b": {}}) == "about 6 min left"
    assert running.left(jobs[1:], {"a": {"seconds": 240.0}, "b": {}}) == "about 10 min left"
