"""The report of checks: its lines, its counts, and its exit status."""

import pytest

from utils.errors import UserError
from utils.findings import WIDTH, Finding, Report, duration, size


def reported(*findings):
    """The lines and the exit status of a report on some findings."""
    lines = []
    report = Report(lambda text: lines.extend(text.splitlines()))
    report.add("a title", iter(findings))
    return lines, report.end()


def test_only_a_failure_fails():
    """A script that goes on after a failed check loses the hours that the check would have saved."""
    lines, status = reported(Finding("ok", "disk", "free"), Finding("warn", "hub", "away"))
    assert (status, lines[-1]) == (0, "1 ok, 1 warning(s), 0 failure(s)")
    lines, status = reported(Finding("FAIL", "disk", "full"))
    assert (status, lines[:2]) == (1, ["a title", "  FAIL  disk           full"])


def test_long_findings_are_wrapped():
    """What to do stands at the end of a line, and is lost where the screen ends."""
    lines, _ = reported(Finding("warn", "disk", "word " * 60 + "/a" * 100))
    assert max(map(len, lines)) <= WIDTH
    assert "".join(lines).replace(" ", "").count("/a") == 100


@pytest.mark.parametrize(
    "error", [UserError("the file is gone"), OSError("gone"), MemoryError(), KeyError("x")]
)
def test_a_check_that_breaks_is_a_finding(error):
    """One odd machine, and a traceback stands where the other findings would."""

    def check():
        yield Finding("ok", "first", "fine")
        raise error

    lines, status = reported(*[])
    lines = []
    report = Report(lines.append)
    report.add("broken", check())
    report.add("later", [Finding("ok", "later", "fine")])
    assert report.counts == {"ok": 2, "warn": 0, "FAIL": 1}
    assert not any("Traceback" in line for line in lines)


def test_sizes_and_durations_are_in_words():
    """Bytes that are read as MiB promise a thousand times the memory."""
    assert [size(5), size(3 * 2**20), size(1.5 * 2**30)] == ["5 B", "3 MiB", "1.5 GiB"]
    assert [duration(s) for s in (40, 600, 7200, 86400 * 3)] == ["40 s", "10 min", "2.0 h", "3.0 days"]
