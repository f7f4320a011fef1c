"""How the project fails: one clear line for the user, never a traceback for the user's mistake."""

import difflib
import os
import re
import reprlib
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_LONGEST = 2000  # characters of a message
# ends of lines, commands to the terminal, marks that turn the text around, and half characters
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class UserError(Exception):
    """A mistake that the user can fix. The message names the file, line or key and what to do.

    It may quote what a file or the command line holds: whatever that is, it stays on its line, of a length that one
    can read, and does nothing to a terminal.

    Args:
        message: one line.
        more: further lines, such as the errors that this one sums up.
    """

    def __init__(self, message: str, *more: str) -> None:
        super().__init__("\n  ".join(map(_one_line, (message, *more))))


def _one_line(text: str) -> str:
    """The text with what no line holds written as in Python, and its middle left out where it is too long."""
    text = _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[10 - _LONGEST // 2 :]}"


class Terminated(BaseException):
    """The system asked this process to end (SIGTERM). The message, if any, says what was kept, and how to go on.

    `run_main` has the signal raise it, so that what is open is closed as on Ctrl-C.
    """


class _Short(reprlib.Repr):
    """Python's own short `repr`, for values that may be huge, or nested so that their full text would be."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxdict, self.maxtuple, self.maxset = 2, 6, 4, 6, 6
        self.maxstring, self.maxother, self.maxlong = 100, 100, 60

    def repr_int(self, value: int, level: int) -> str:
        return super().repr_int(value, level) if abs(value) < 10**60 else "a number of more than 60 digits"


def shown(value: Any) -> str:
    """`repr(value)` for a message: the same for what people write, short for what they do not."""
    text = _Short().repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def printable(text: str) -> str:
    """`text` without what makes a terminal do something else than show it; line ends and tabs stay.

    Escape sequences can hide lines, write others in their place, or fill the clipboard.
    """
    return _UNPRINTABLE.sub(lambda found: found[0] if found[0] in "\n\t" else repr(found[0])[1:-1], text)


def nearest(word: str, valid: Iterable[str]) -> str:
    """A hint for a misspelt `word`: "; did you mean 'x'?", or the valid choices when none is near."""
    word = word[:100]  # comparing takes long for long words
    choices = sorted(valid)
    by_lower = {choice.lower(): choice for choice in choices}
    match = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean '{by_lower[match[0]]}'?" if match else f"; valid: {', '.join(choices)}"


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def existing_file(path: str | Path, what: str, largest: int | None = None) -> Path:
    """`path` as a Path when it is a readable, non-empty file.

    Args:
        path: the file.
        what: it in words, for messages.
        largest: bytes that it may have; None: any number.

    Raises:
        UserError: the file is missing, is empty, is too large, or is no file: a folder, a pipe, a device.
    """
    path = Path(path)
    if not os.path.exists(path):  # Path's own raises for a name that is too long
        raise UserError(f"{what} not found: {str(path)[:300]}")
    if path.is_dir():
        raise UserError(f"{what} is a folder, a file is needed: {path}")
    if not path.is_file():  # opening a pipe would wait for ever, and a device may have no end
        raise UserError(f"{what} is no plain file: {path}")
    if not os.access(path, os.R_OK):
        raise UserError(f"{what} may not be read: {path}")
    if path.stat().st_size == 0:
        raise UserError(f"{what} is empty: {path}")
    if largest is not None and path.stat().st_size > largest:
        raise UserError(f"{what} has more than {largest >> 20} MiB: {path}")
    return path


def run_main(main: Callable[[], int | None]) -> None:
    """Run a script's `main` and end the process with an honest exit status.

    UserError: one line on stderr and status 1. Ctrl-C: status 130. SIGTERM: status 143. A closed output pipe: status
    141. Anything else is a defect of the project and keeps its traceback. Whoever lets a KeyboardInterrupt or a
    Terminated pass may give it an argument, which the line ends with: what is kept, and how to resume.
    """
    before = signal.signal(signal.SIGTERM, _terminates(os.getpid()))
    try:
        sys.exit(main() or 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
    except KeyboardInterrupt as error:
        print(_ended("interrupted", error), file=sys.stderr, flush=True)
        sys.exit(130)
    except Terminated as error:
        print(_ended("terminated", error), file=sys.stderr, flush=True)
        sys.exit(143)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _terminates(process: int) -> Callable[[int, object], None]:
    """What SIGTERM does in a process; those that it forks are ended by it as ever."""

    def handle(number: int, frame: object) -> None:
        if os.getpid() != process:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if isinstance(sys.exc_info()[1], KeyboardInterrupt):
            return  # DeepSpeed's launcher sends it after Ctrl-C, which has words on what is kept
        signal.signal(number, signal.SIG_IGN)  # a second one must not end what the first one cleans up
        raise Terminated

    return handle


def _ended(how: str, error: BaseException) -> str:
    return f"{how}: {error}" if error.args else how
