"""`make demo-personagpt`: what it runs and in which order. The commands themselves are run by other tests."""

import subprocess
import sys
from pathlib import Path

import pytest

from companions.personagpt import demo, register_personagpt
from companions.personagpt.actions import GOALS
from companions.personagpt.arguments import interact_parser
from companions.personagpt.chain import read_chain
from companions.personagpt.evaluate import evaluate_parser
from companions.personagpt.preprocess_dataset import preprocess_parser
from models.arguments import read_train_arguments
from models.decoding.arguments import evaluate_parser as scoring_parser
from tests.conftest import ROOT
from trainer import demo as shared
from utils.errors import UserError

ORDER = [
    "preprocess_dataset",
    "train.py",
    "train",
    "evaluate",
    "evaluate_runs_results.py",
    "interact",
    "interact",
]


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
            words = [word.partition("=") for word in command]
            log_dir = next((value for name, _, value in words if name == "--log_dir"), None)
            for name, _, value in words:
                if name == "--config":
                    (tmp_path / log_dir / f"{Path(value).stem}_2026-01-01-0000").mkdir(parents=True)
            return subprocess.CompletedProcess(command, 0)

        monkeypatch.setattr(shared, "ROOT", tmp_path)
        monkeypatch.setattr(shared.subprocess, "run", start)
        if failing is None:
            demo.main()
        else:
            with pytest.raises(UserError) as caught:
                demo.main()
            commands.append((str(caught.value), None))
        return commands

    return run


def name_of(words):
    """Which command a call is."""
    return words[1].rpartition(".")[2] if words[0] == "-m" else words[0]


def test_each_step_gets_what_the_one_before_it_made(demo_run, monkeypatch):
    """A demo that trains on other data, or talks to another run, shows what is not its own doing."""
    monkeypatch.chdir(ROOT)
    register_personagpt()
    commands = demo_run()
    assert [name_of(words) for words, _ in commands] == ORDER
    prepare, base, train, evaluate, scores, *talks = [words for words, _ in commands]
    prepared = preprocess_parser().parse_args(prepare[2:])
    for path in (prepared.train, prepared.valid, prepared.actions):
        assert (ROOT / path).is_file()
    _, base_config = read_train_arguments(base[1:])
    log_dir = base_config.training.log_dir
    # the files of the data are there when the demo has come so far
    pretrain, control = (read_train_arguments([f"--config={path}", *rest])[1] for path, rest in split(train))
    for config in (pretrain, control):
        assert config.model.model_name == f"{log_dir}/sample-lm_2026-01-01-0000"
        assert config.training.log_dir == log_dir
        assert config.dataset.train == str(prepared.out / "train_data.jsonl")
        assert config.dataset.valid == str(prepared.out / "valid_data.jsonl")
    assert (pretrain.training.stage, control.training.stage) == ("pretrain", "control")
    assert control.dataset.actions == str(prepared.out / "active_data.jsonl")
    last = f"{log_dir}/sample-control_2026-01-01-0000"
    assert evaluate_parser().parse_args(evaluate[2:]).model_path == last
    assert scoring_parser().parse_args(scores[1:]).main_path == log_dir
    said = [stdin for _, stdin in commands[5:]]
    for mode, (words, typed) in enumerate(zip(talks, said, strict=True)):
        args = interact_parser().parse_args(words[2:])
        assert (args.model_path, args.mode) == (last, mode)
        assert typed.endswith("\nexit\n"), "else the conversation waits for more"
    assert all(int(number) < len(GOALS) for number in said[1].split()[:-1])


def split(words):
    """Each configuration of a chain with the other words."""
    rest = [word for word in words[2:] if not word.startswith("--config=")]
    return [(word.partition("=")[2], rest) for word in words if word.startswith("--config=")]


def test_the_chain_is_taken_by_its_command(demo_run, monkeypatch, tmp_path):
    """A flag that was renamed would end the first thing that a newcomer runs."""
    monkeypatch.chdir(ROOT)
    register_personagpt()
    (train,) = [words for words, _ in demo_run() if name_of(words) == "train"]
    assert [link.config.training.stage for link in read_chain(train[2:])] == ["pretrain", "control"]


@pytest.mark.parametrize("failing", [0, 2, 6])
def test_a_step_that_fails_ends_the_demo_with_one_line(demo_run, failing):
    """A demo that continues after a failure prints figures of an older run, or a second, misleading error."""
    *commands, (message, _) = demo_run(failing)
    assert [name_of(words) for words, _ in commands] == ORDER[: failing + 1]
    assert message.startswith(f"the step '{failing + 1}. ")
    assert message.endswith("status 3")
