"""The shell of a chat with a conversation that is not SPT's: its own prompts, its own end, lines as they were typed."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from models.decoding.shell import converse, converse_in_terminal
from utils.errors import UserError


class Menu:
    """Asks for a name, then for numbers up to 2; over after three of them."""

    def __init__(self):
        self.name, self.lines, self.interrupt = None, [], False

    @property
    def prompt(self):
        """By what is asked for."""
        return "name: " if self.name is None else f"{len(self.lines)} [0-2]: "

    @property
    def is_over(self):
        """After three numbers."""
        return len(self.lines) == 3

    def opening(self):
        """Two lines."""
        return ["welcome", "choose"]

    def answer(self, line):
        """Two lines for a number."""
        if self.name is None:
            self.name = line
            return []
        if self.interrupt:
            raise KeyboardInterrupt
        if line not in ("0", "1", "2"):
            raise UserError(f"{line!r} is no number from 0 to 2")
        self.lines.append(line)
        return [f"user: {line}", f"bot: {line}"]

    def save(self, folder):
        """A file of the lines."""
        (folder / "menu.txt").write_text("".join(self.lines), encoding="utf-8")
        return folder / "menu.txt"


@pytest.fixture
def talk(tmp_path):
    """talk(lines, menu): the prompts and what is shown after each, and the conversation."""

    def run(lines, menu=None):
        menu, said, script = menu or Menu(), [], iter(lines)

        def ask(prompt):
            line = next(script, EOFError)
            said.append(f"{prompt}{line}" if isinstance(line, str) else prompt)
            if isinstance(line, str):
                return line
            raise line

        converse(menu, ask, said.append, tmp_path)
        return said, menu, list(script)

    return run


def test_a_conversation_that_asks_and_ends_by_itself(talk):
    """A prompt text of SPT's asks for a message where a number is wanted; one question too many hangs a script."""
    said, menu, rest = talk(["  Ann ", "0", "2", "1", "never read"])
    assert said == [
        *("welcome", "choose", "name:   Ann ", "0 [0-2]: 0", "user: 0", "bot: 0"),
        *("1 [0-2]: 2", "user: 2", "bot: 2", "2 [0-2]: 1", "user: 1", "bot: 1", "goodbye"),
    ]
    assert menu.name == "  Ann "  # as it was typed: the blanks are tokens to some systems
    assert rest == ["never read"]


def test_a_wrong_line_is_told_and_asked_for_again(talk):
    """An index that is mistyped would cost the conversation."""
    said, menu, _ = talk(["Ann", "3", "", "1", "exit", "2"])
    assert said[3:5] == ["0 [0-2]: 3", "error: '3' is no number from 0 to 2"]
    assert said[5:7] == ["0 [0-2]: ", "error: '' is no number from 0 to 2"]
    assert menu.lines == ["1"]
    assert said[-2:] == ["1 [0-2]: exit", "goodbye"]


def test_save_and_exit_are_the_shells(talk, tmp_path):
    """A conversation that answers them itself could be left, or kept, in one system and not in another."""
    said, menu, _ = talk(["Ann", "1", " SAVE ", "Exit"])
    assert f"saved to {tmp_path / 'menu.txt'}" in said
    assert (tmp_path / "menu.txt").read_text("utf-8") == "1"
    assert menu.lines == ["1"]


@pytest.mark.parametrize("end", [EOFError, KeyboardInterrupt])
def test_the_end_of_input_and_ctrl_c(talk, end):
    """A traceback where people leave."""
    assert talk(["Ann", end()])[0][-2:] == ["", "goodbye"]
    menu = Menu()
    menu.interrupt = True
    said, _, rest = talk(["Ann", "1", "2"], menu)
    assert said[-2:] == ["", "goodbye"]
    assert rest == ["2"]


def test_bytes_that_are_no_text_do_not_reach_a_conversation(talk):
    """They would reach the tokenizer, or become the name."""
    said, menu, _ = talk(["caf\ufffd", "save\udcff", "Ann"])
    told = "error: this line holds bytes that are not UTF-8 text; nothing was said to the model"
    assert said.count(told) == 2
    assert menu.name == "Ann"


def test_piped_lines_are_shown(tmp_path, monkeypatch, capsys):
    """A transcript of a script without its lines cannot be read; a stray byte must not end the script."""
    raw = io.BytesIO(b"caf\xe9\nAnn\n1\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(raw, encoding="utf-8"))
    converse_in_terminal(Menu(), tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["welcome", "choose", "name: caf\ufffd"]
    assert lines[3].startswith("error: ")
    assert lines[4:] == ["name: Ann", "0 [0-2]: 1", "user: 1", "bot: 1", "1 [0-2]: ", "goodbye"]


def test_arrow_up_at_a_terminal_is_the_line_before(tmp_path):
    """The key's escape sequence would be said to the model, and nothing could be corrected but at the line's end."""
    ours, theirs = pty.openpty()
    talking = subprocess.Popen(
        [sys.executable, "-c", _TALK, str(tmp_path)],
        **{"cwd": Path(__file__).parents[3], "env": os.environ | {"TERM": "xterm"}},
        **{"stdin": theirs, "stdout": theirs, "stderr": theirs},
    )
    os.close(theirs)
    output = b""
    for prompt, keys in ((b"name: ", b"2\r"), (b"0 [0-2]: ", b"\x1b[A\r"), (b"1 [0-2]: ", b"\x04")):
        while prompt not in output and b"error" not in output:
            output += os.read(ours, 1000)  # an OSError when it has ended
        os.write(ours, keys)
    talking.wait()
    os.close(ours)
    assert output.count(b"user: 2") == 1, output


_TALK = """
import sys
from pathlib import Path
from models.decoding.shell import converse_in_terminal
from tests.models.decoding.test_shell import Menu
converse_in_terminal(Menu(), Path(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("script", "completed"),
    [(["a", "0", "1", "2"], True), (["exit"], True), ([EOFError], True), ([KeyboardInterrupt], False)],
)
def test_only_ctrl_c_leaves_a_conversation_incomplete(tmp_path, script, completed):
    """What follows a conversation, such as a training, must not start when the user has stopped everything."""
    lines = iter(script)

    def ask(prompt):
        line = next(lines)
        if isinstance(line, str):
            return line
        raise line

    assert converse(Menu(), ask, lambda text: None, tmp_path) is completed


def test_ctrl_c_during_an_answer_leaves_it_incomplete(tmp_path):
    """Answers take long: that is when people press it."""
    menu = Menu()
    menu.interrupt, menu.name = True, "a"
    assert converse(menu, lambda prompt: "0", lambda text: None, tmp_path) is False
