"""What a check finds, and the report that people read: a status, what was looked at, and what to do."""

import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from utils.errors import UserError, first_line

WIDTH = 100
"""columns of the report"""
_SUBJECT = 14
_INDENT = " " * (2 + 4 + 2 + _SUBJECT + 1)

Status = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Args:
        status: ok; warn, where a run would work and something is probably not meant; FAIL, where it would not.
        subject: what was looked at.
        text: what is so, and unless it is in order what to do.
    """

    status: Status
    subject: str
    text: str


class Report:
    """Prints findings as they come, and counts them.

    Args:
        say: prints a line.
    """

    def __init__(self, say: Callable[[str], object] = lambda line: print(line, flush=True)) -> None:
        self.say = say
        self.counts: dict[Status, int] = {"ok": 0, "warn": 0, "FAIL": 0}

    def add(self, title: str, findings: Iterable[Finding]) -> None:
        """A title and the findings of one kind; what a check raises is a finding too, not the end of the report."""
        self.say(title)
        try:
            for finding in findings:
                self._print(finding)
        except UserError as error:
            self._print(Finding("FAIL", "", str(error)))
        except MemoryError:
            self._print(Finding("FAIL", "", "the memory of this machine is too small for this check"))
        except (
            Exception
        ) as error:  # a check meets whatever is wrong with a machine; the others can still be made
            reason = f"{type(error).__name__}: {first_line(error)}"
            self._print(Finding("FAIL", "", f"this could not be checked ({reason})"))

    def end(self) -> int:
        """Print how many of each there are; the exit status: 1 where something fails."""
        warnings, failures = self.counts["warn"], self.counts["FAIL"]
        self.say(f"{self.counts['ok']} ok, {warnings} warning(s), {failures} failure(s)")
        return int(failures > 0)

    def _print(self, finding: Finding) -> None:
        self.counts[finding.status] += 1
        start = f"  {finding.status:<4}  {finding.subject:<{_SUBJECT}} "
        # a path may be longer than a line: it is cut rather than lost at the edge of the screen
        text = " ".join(finding.text.split())
        self.say(textwrap.fill(text, WIDTH, initial_indent=start, subsequent_indent=_INDENT))


def size(count: float) -> str:
    """Bytes in words: `3.2 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"


def duration(seconds: float) -> str:
    """Seconds in words: `40 s`, `12 min`, `3.4 h`, `2.5 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
