"""The table of what the tests survived, from sessions of a few tests."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

TESTS = """
import pytest

@pytest.mark.parametrize("number", range(4))
def test_kills(survived, number):
    survived("kills")
    survived("kills", 2)
    survived("bad inputs", 1000)

def test_that_counts_nothing(survived):
    pass
"""
FAILING = """
def test_ranks(survived):
    survived("ranks and ZeRO", 3)
    survived("kills", 2)
    assert False
"""


@pytest.fixture
def table(tmp_path):
    """table(tests, *arguments): what a session of these tests prints after the heading of the table."""

    def run(tests, *arguments):
        (tmp_path / "test_some.py").write_text(tests, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-p", "tests.report", "-p", "no:cacheprovider", *arguments]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        return [line for line in done.stdout.splitlines() if " | " in line]

    return run


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "two workers"])
def test_counts_of_all_workers(table, workers):
    """Counts kept in a worker's memory end with it, and the table would tell of a part of the tests."""
    assert table(TESTS, *workers) == [
        "kills survived   |    12 | nothing lost",
        "bad inputs tried | 4,000 | 0 tracebacks",
    ]


def test_a_failure_is_no_survival(table):
    """A table that says that nothing was lost, over a test that failed, would be believed."""
    assert table(TESTS + FAILING) == [
        "kills survived                 |    14 | FAILURES in 1 test",
        "bad inputs tried               | 4,000 | 0 tracebacks",
        "rank and ZeRO combinations run |     3 | FAILURES in 1 test",
    ]


def test_an_unknown_kind_is_refused(table):
    """A misspelt kind would have no row, and nobody would miss it."""
    assert table(TESTS.replace("kills", "kill")) == []


def test_without_counts_there_is_no_table(table):
    """A heading over nothing reads as if something had been lost."""
    assert table("def test_nothing(): pass") == []
