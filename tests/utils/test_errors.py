"""The user's mistakes: one line, an honest exit status, and a hint that helps."""

import os
import signal
import sys

import pytest

from tests.helpers import launch
from utils.errors import Terminated, UserError, existing_file, nearest, run_main


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("learning_rat", "; did you mean 'learning_rate'?"),
        ("LEARNING_RATE", "; did you mean 'learning_rate'?"),
        ("k", "; did you mean 'K'?"),
        ("zzz", "; valid: K, batch_size, learning_rate"),
    ],
)
def test_nearest_names_the_key_that_was_meant(word, hint):
    """A hint that misses other letter cases, or is empty for a far word, leaves the user to guess."""
    assert nearest(word, ["learning_rate", "K", "batch_size"]) == hint


def test_existing_file_names_what_is_wrong_with_the_path(tmp_path, monkeypatch):
    """A missing, empty or unreadable file that passes becomes an empty dataset or a traceback later."""
    empty, full = tmp_path / "empty.txt", tmp_path / "full.txt"
    empty.touch()
    full.write_text("x")
    assert existing_file(str(full), "configuration") == full
    for path, message in [
        (tmp_path / "none.txt", "configuration not found: "),
        (tmp_path, "configuration is a folder, a file is needed: "),
        (empty, "configuration is empty: "),
    ]:
        with pytest.raises(UserError) as caught:
            existing_file(path, "configuration")
        assert str(caught.value) == f"{message}{path}"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match=r"configuration may not be read: .*full\.txt"):
        existing_file(full, "configuration")


def _raises(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("main", "status", "stderr"),
    [
        (lambda: None, 0, ""),
        (lambda: 3, 3, ""),
        (_raises(UserError("model.K = 0: at least 1")), 1, "error: model.K = 0: at least 1\n"),
        (_raises(KeyboardInterrupt()), 130, "interrupted\n"),
        (_raises(KeyboardInterrupt("7 rows are kept")), 130, "interrupted: 7 rows are kept\n"),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), 143, "terminated\n"),
        (_raises(Terminated("7 rows are kept")), 143, "terminated: 7 rows are kept\n"),
    ],
)
def test_run_main_ends_with_status_and_one_line(main, status, stderr, capsys):
    """A script that fails with status 0, or with a traceback for the user's own mistake."""
    with pytest.raises(SystemExit) as caught:
        run_main(main)
    assert caught.value.code == status
    assert capsys.readouterr().err == stderr


def test_sigterm_after_ctrl_c_leaves_its_words(capsys):
    """Ctrl-C under DeepSpeed's launcher, which sends SIGTERM as well: nobody is told how to go on."""

    def main():
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            os.kill(os.getpid(), signal.SIGTERM)
            error.args = ("7 rows are kept",)
            raise

    with pytest.raises(SystemExit) as caught:
        run_main(main)
    assert caught.value.code == 130
    assert capsys.readouterr().err == "interrupted: 7 rows are kept\n"


def test_sigterm_is_as_before_outside(capsys):
    """A handler that stays: the program around a script can no longer be ended."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit):
        run_main(lambda: None)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_forked_process_is_ended_by_sigterm_as_ever():
    """Workers of a data loader are ended by SIGTERM: each would print a traceback, or go on."""
    statuses = []

    def main():
        child = os.fork()
        if not child:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(7)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    with pytest.raises(SystemExit):
        run_main(main)
    assert statuses == [-signal.SIGTERM]


def test_run_main_keeps_the_traceback_of_a_defect():
    """A defect of the project that is shown as one line cannot be found."""
    with pytest.raises(ZeroDivisionError):
        run_main(_raises(ZeroDivisionError()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=none.yml"], "error: configuration not found: none.yml\n"),
        (
            ["--config=config/sample/spt.yml", "--bacth=2"],
            "error: unknown argument --bacth=2; did you mean '--batch'?\n",
        ),
        ([], "error: the following arguments are required: --config; see --help\n"),
    ],
)
def test_train_tells_a_mistake_in_one_line(arguments, message):
    """The script itself, as a user starts it: one line on stderr, status 1, nothing on stdout."""
    done = launch(sys.executable, "train.py", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)


def test_a_closed_pipe_is_no_traceback():
    """`python test.py ... | head` used to end with a BrokenPipeError on the terminal."""
    script = (
        "from utils.errors import run_main\nrun_main(lambda: [print('x' * 99) for _ in range(9999)] and None)"
    )
    command = f'"{sys.executable}" -c "$SCRIPT" | head -n 1; exit ${{PIPESTATUS[0]}}'
    done = launch("bash", "-c", command, variables={"SCRIPT": script})
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("quoted", "message"),
    [
        ("a\nerror: all is well", "a\\nerror: all is well"),
        ("\x1b[2Jgone\r", "\\x1b[2Jgone\\r"),
        ("\u202egnihton", "\\u202egnihton"),
        ("one\u2028two\x85", "one\\u2028two\\x85"),
        ("\udcff", "\\udcff"),
        ("\U0001f468\u200d\U0001f469 שלום é", "\U0001f468\u200d\U0001f469 שלום é"),
        ("x" * 10**6, f"{'x' * 1000} ... {'x' * 990}"),
    ],
)
def test_a_message_is_one_line_whatever_it_quotes(quoted, message):
    """An id with a line break, or with commands to a terminal, would write what it likes below the message."""
    assert str(UserError(quoted)) == message


def test_further_lines_stand_below():
    """A summary of several failed runs has a line for each, and none of them can fake another."""
    assert (
        str(UserError("2 of 3 runs failed:", "a: x\ny", "b: z")) == "2 of 3 runs failed:\n  a: x\\ny\n  b: z"
    )
