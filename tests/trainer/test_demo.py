"""`make demo`: what it runs and in which order. The commands themselves are run by other tests."""

import subprocess
import sys
from pathlib import Path

import pytest

import evaluate_runs_results
from models.arguments import read_train_arguments, train_parser
from models.decoding.arguments import chat_parser, decode_parser
from tests.helpers import SPT
from trainer import demo
from utils.errors import UserError

SCRIPTS = ["train.py", "train.py", "test.py", "evaluate_runs_results.py", "interactive_test.py"]


@pytest.fixture
def demo_run(monkeypatch, tmp_path):
    """demo_run(failing): the commands that the demo starts, as (arguments, stdin); step `failing` ends with 3."""

    def run(failing=None):
        commands = []

        def start(command, input=None, **_):
            assert command[0] == sys.executable
            commands.append((command[1:], input))
            if len(commands) - 1 == failing:
                return subprocess.CompletedProcess(command, 3)
            if command[1] == "train.py":
                args = train_parser(SPT).parse_args(command[2:])
                (tmp_path / _log_dir(args) / f"{Path(args.config).stem}_2026-01-01-0000").mkdir(parents=True)
            return subprocess.CompletedProcess(command, 0)

        monkeypatch.setattr(demo, "ROOT", tmp_path)
        monkeypatch.setattr(demo.subprocess, "run", start)
        if failing is None:
            demo.main()
        else:
            with pytest.raises(UserError) as caught:
                demo.main()
            commands.append(str(caught.value))
        return commands

    return run


def _log_dir(args):
    return getattr(args, "training.log_dir")


def test_each_step_gets_what_the_one_before_it_made(demo_run):
    """A demo that decodes or scores another run shows figures that are not those of what it trained."""
    commands = demo_run()
    assert [command[0] for command, _ in commands] == SCRIPTS
    base, spt = (train_parser(SPT).parse_args(command[1:]) for command, _ in commands[:2])
    log_dir = _log_dir(base)
    assert log_dir == _log_dir(spt)
    assert log_dir.startswith("runs_sample")
    assert spt.assignments == [f"model.model_name={log_dir}/{Path(base.config).stem}_2026-01-01-0000"]
    trained = f"{log_dir}/{Path(spt.config).stem}_2026-01-01-0000"
    assert decode_parser().parse_args(commands[2][0][1:]).model_path == trained
    assert chat_parser().parse_args(commands[4][0][1:]).model_path == trained
    assert [said for _, said in commands[:4]] == [None] * 4
    assert commands[4][1].endswith("\nexit\n")  # else the chat waits for more


def test_every_command_is_taken_by_its_script(demo_run, monkeypatch):
    """A flag or a key that was renamed would end the first thing that a newcomer runs."""
    commands = [command for command, _ in demo_run()]
    for command in commands[:2]:
        args, config = read_train_arguments(command[1:])
        assert config.training.log_dir == _log_dir(args)
    decode_parser().parse_args(commands[2][1:])
    chat_parser().parse_args(commands[4][1:])
    seen = []
    monkeypatch.setattr(evaluate_runs_results, "evaluate_runs", lambda *given: seen.append(given[0]))
    monkeypatch.setattr(sys, "argv", commands[3])
    evaluate_runs_results.main()
    assert seen == [config.training.log_dir]


@pytest.mark.parametrize("failing", range(len(SCRIPTS)))
def test_a_step_that_fails_ends_the_demo_with_one_line(demo_run, failing):
    """A demo that continues after a failure prints figures of an older run, or a second, misleading error."""
    *commands, message = demo_run(failing)
    assert [command[0] for command, _ in commands] == SCRIPTS[: failing + 1]
    assert "\n" not in message
    assert message.startswith(f"the step '{failing + 1}. ")
    assert message.endswith("status 3")
