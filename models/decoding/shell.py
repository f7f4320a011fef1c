"""The shell of a chat: lines in, lines out, the ways to leave, and what must not end it.

Input and output are plain functions, so that a test can hold a whole conversation.
"""

import contextlib
import importlib
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from utils.errors import UserError, printable
from utils.files import write_new


class Talk(Protocol):
    """What the shell asks of a conversation."""

    @property
    def prompt(self) -> str:
        """What stands before the user's next line."""

    @property
    def is_over(self) -> bool:
        """Whether the conversation ends by itself: no further line is read."""

    def opening(self) -> Sequence[str]:
        """What is shown before the first line."""

    def answer(self, line: str) -> Sequence[str]:
        """What a line is answered with, as it was typed. `exit` and `save` do not come here.

        Raises:
            UserError: it cannot be answered; the conversation continues as if it had not been said.
        """

    def save(self, folder: Path) -> Path:
        """Write the conversation to a new file in `folder`.

        Raises:
            UserError: it cannot be written.
        """


def converse(talk: Talk, ask: Callable[[str], str], show: Callable[[str], None], folder: Path) -> bool:
    """Read lines until the conversation is over, `exit`, the end of the input or Ctrl-C.

    Args:
        talk: the conversation.
        ask: shows a prompt and returns a line, such as `input`.
        show: prints a line.
        folder: where `save` writes.

    Returns:
        Whether it ended otherwise than by Ctrl-C.
    """
    completed = True
    for text in talk.opening():
        show(text)
    while not talk.is_over:
        try:
            line = ask(talk.prompt)
        except (EOFError, KeyboardInterrupt) as end:
            completed = isinstance(end, EOFError)
            show("")
            break
        if line.strip().lower() == "exit":
            break
        try:
            for text in _answer(talk, line, folder):
                show(text)
        except UserError as error:  # such as a message that is too long: the conversation continues
            show(f"error: {error}")
        except KeyboardInterrupt:
            completed = False
            show("")
            break
    show("goodbye")
    return completed


def _answer(talk: Talk, line: str, folder: Path) -> Sequence[str]:
    if is_no_text(line):
        raise UserError("this line holds bytes that are not UTF-8 text; nothing was said to the model")
    if line.strip().lower() == "save":
        return [f"saved to {talk.save(folder)}"]
    return talk.answer(line)


def is_no_text(line: str) -> bool:
    """Whether bytes that are not UTF-8 were in it, as the input or the command line marks them."""
    return any(mark == "\ufffd" or "\ud800" <= mark <= "\udfff" for mark in line)


def save_transcript(folder: Path, text: str) -> Path:
    """Write a conversation to the next free `chat_{n}.txt` in `folder`.

    Raises:
        UserError: it cannot be written.
    """
    number = 1
    while not write_new(path := folder / f"chat_{number}.txt", text):
        number += 1
    return path


def converse_in_terminal(talk: Talk, folder: Path, ask: Callable[[str], str] | None = None) -> bool:
    """`converse` on standard input and output.

    Args:
        talk: the conversation.
        folder: where `save` writes.
        ask: reads lines instead of standard input.
    """
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # a byte that is no text is told, and the chat continues
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):  # some builds of Python lack it
            importlib.import_module("readline")  # from here on `input` knows arrow keys and earlier lines
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal of few characters shows "?" for the others
    return converse(talk, ask or _ask, lambda text: print(printable(text), flush=True), folder)


def _ask(prompt: str) -> str:
    """`input`; a line that comes from a file or a pipe is shown, so that the transcript can be read."""
    line = input(prompt)
    if not sys.stdin.isatty():
        print(printable(line), flush=True)
    return line
