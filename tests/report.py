"""What the tests put the project through, counted over all of them: a table at the end of pytest's own report.

A test asks for the fixture `survived` and calls it for what it has seen to go well: `survived("kills")`, or
`survived("bad inputs", 20)`. The counts travel with the tests' reports, so that those of all pytest-xdist workers come
together.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal

import pytest

Kind = Literal["kills", "bad inputs", "ranks and ZeRO"]
ROWS: dict[Kind, tuple[str, str]] = {
    "kills": ("kills survived", "nothing lost"),
    "bad inputs": ("bad inputs tried", "0 tracebacks"),
    "ranks and ZeRO": ("rank and ZeRO combinations run", "each equal to its reference"),
}
"""what the table calls a kind, and what all of its tests have shown where none of them failed"""

_PROPERTY = "survived"


@pytest.fixture
def survived(request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """survived(kind, number=1): so many more of a kind went well; nothing is counted for a kind that is not asked for.

    A test that fails counts with what it had survived until then, and its kinds are said to have failures.
    """
    counts: Counter[str] = Counter()

    def add(kind: Kind, number: int = 1) -> None:
        if kind not in ROWS:
            raise ValueError(f"{kind!r}: one of {list(ROWS)}")
        counts[kind] += number

    yield add
    request.node.user_properties.append((_PROPERTY, dict(counts)))


class Survivors:
    """Adds up what the tests survived, and prints it."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The report of one phase of a test, from this process or from a worker."""
        if report.failed:
            self.failed.add(report.nodeid)
        if report.when != "teardown":
            return
        for name, counts in report.user_properties:
            if name == _PROPERTY:
                self.counts.update(counts)
                self.failures.update(dict.fromkeys(counts, int(report.nodeid in self.failed)))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table; nothing where no test counted anything."""
        lines = self.lines()
        if lines:
            terminalreporter.section("survived")
            for line in lines:
                terminalreporter.write_line(line)

    def lines(self) -> list[str]:
        """A row for each kind that was counted, in the order of `ROWS`."""
        rows = []
        for kind, (name, shown) in ROWS.items():
            if kind in self.counts:
                failures = self.failures[kind]
                end = f"FAILURES in {failures} test{'s' * (failures > 1)}" if failures else shown
                rows.append((name, f"{self.counts[kind]:,}", end))
        widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:2]]
        return [f"{name:{widths[0]}} | {number:>{widths[1]}} | {end}" for name, number, end in rows]


def pytest_configure(config: pytest.Config) -> None:
    """Pytest's hook: a new count for each session."""
    config.pluginmanager.register(Survivors(), "survivors")
