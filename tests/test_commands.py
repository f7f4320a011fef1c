"""The README's commands as a user types them: from a configuration to a scored run, and to a chat."""

import shlex
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.conftest import ROOT
from tests.helpers import json_rows, launch
from tests.run_commands import Command, run_commands

CONFIG = ROOT / "config/convai2/opt-125m-selective-linear-both-prompt-causal-convai2.yml"
ENGINE = ["--deepspeed", "--deepspeed_config", "ds_config.json"]


@pytest.fixture(scope="module")
def small(data, lm_folder, tmp_path_factory):
    """The arguments that put a tiny LM and a few dialogues in the place of the real ones."""
    log_dir = tmp_path_factory.mktemp("commands")
    settings = {
        "model.model_name": lm_folder("opt"),
        "dataset.train": data["train"],
        "dataset.valid": data["valid"],
    }
    arguments = [text for key, value in settings.items() for text in ("--set", f"{key}={value}")]
    return log_dir, [*arguments, "--log_dir", str(log_dir)]


@pytest.fixture(scope="module")
def done(small, tmp_path_factory):
    """The folder of the runs, and what came of each command.

    `launched`: that in the configuration's first line; `alone`: train.py without the launcher, with --do_test; the
    others: what follows on them, and mistakes. Under the launcher are those that are more to it than one more script.
    """
    log_dir, arguments = small
    shipped = shlex.split(CONFIG.read_text(encoding="utf-8").splitlines()[0].lstrip("# "))
    assert shipped[:3] == ["deepspeed", "--num_nodes=1", "train.py"]
    ended = {"launched": launch(*shipped, *arguments)}
    missing = ["--config=config/sample/spt.yml", *arguments, "--set", "dataset.train=no/such/file.txt"]
    alone = [*shipped[3:], *arguments, "--training_ratio=0.2", "--do_test=yes", "--exp_name=alone"]
    no_run = tmp_path_factory.mktemp("no_run")
    commands = {
        "alone": ["train.py", *alone],
        "decoded": ["test.py", "--local_rank=0", f"--model_path={log_dir}", "--batch_size=16", *ENGINE],
        "scored": ["evaluate_runs_results.py", f"--main_path={log_dir}"],
        "no/such/file.txt": ["train.py", *missing],
        "no checkpoint here": ["test.py", f"--model_path={no_run}"],
    }
    printed = run_commands([Command(words) for words in commands.values()], tmp_path_factory.mktemp("out"))
    for name, each in zip(commands, printed, strict=True):
        ended[name] = CompletedProcess(commands[name], each.status, each.output, "")
    return log_dir, ended


def _fine(done):
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout.splitlines()


def _run_folder(done):
    lines = [line for line in _fine(done) if line.startswith("run folder: ")]
    assert len(lines) == 1
    return Path(lines[0].removeprefix("run folder: "))


@pytest.mark.slow
def test_train_under_the_launcher_and_alone(done):
    """The released command line and its folder name; and the same without the launcher."""
    log_dir, ended = done
    run, alone = _run_folder(ended["launched"]), _run_folder(ended["alone"])
    assert run.name.startswith(f"{CONFIG.stem}_LR=0.0001_20")
    assert alone.name.startswith("alone_LR=0.0001_PTRAIN=0.2_20")
    assert sorted(path for path in log_dir.iterdir() if path.is_dir()) == sorted([run, alone])
    for folder in (run, alone):
        assert (folder / "trained.safetensors").is_file()
        assert (folder / "ds_ckpt/best").is_file()
    assert len(json_rows(alone / "evaluation_result.jsonl")) == 28  # --do_test
    assert "42 batches of 2 examples per rank and epoch, 42 steps in all, rows: example" in _fine(
        ended["launched"]
    )


@pytest.mark.slow
def test_decode_and_score(done):
    """Each script reads what the one before it wrote; one that exits 0 without its file breaks the chain."""
    log_dir, ended = done
    run, alone = _run_folder(ended["launched"]), _run_folder(ended["alone"])
    assert len(json_rows(run / "evaluation_result.jsonl")) == 28
    skipped = f"{alone / 'evaluation_result.txt'} exists, skipped (--skip_exists=no decodes it again)"
    assert skipped in _fine(ended["decoded"])
    assert f"written: results.txt and results.csv in {log_dir}" in _fine(ended["scored"])
    table = (log_dir / "results.csv").read_text(encoding="utf-8")
    assert run.name in table
    assert alone.name in table


@pytest.mark.slow
@pytest.mark.long
def test_chat_under_the_launcher(done):
    """A launcher that keeps what is typed to itself leaves a chat that ends at once."""
    run = _run_folder(done[1]["launched"])
    chat = ["interactive_test.py", f"--model_path={run}", "--batch_size=1", "--seed=1", *ENGINE]
    output = _fine(launch("deepspeed", *chat, stdin="hello , how are you ?\nsave\nexit\n"))
    assert "persona:" in output
    assert "you> hello , how are you ?" in output  # a piped line is shown, so that the transcript can be read
    assert any(line.startswith("bot [prompt ") for line in output)
    assert f"you> save\nsaved to {run / 'chat_1.txt'}\nyou> exit\ngoodbye" in "\n".join(output)
    saved = (run / "chat_1.txt").read_text(encoding="utf-8")
    assert "\nQ: hello , how are you ?\nR: " in saved


@pytest.mark.slow
def test_mistakes_end_with_one_line_and_status_1(done):
    """A launcher that hides the status, or a traceback before the line, is what scripts stumble over."""
    messages = {message: done[1][message] for message in ("no/such/file.txt", "no checkpoint here")}
    launched = launch("deepspeed", "train.py", "--config=config/sample/spt.yml", "--bacth=2")
    messages["unknown argument --bacth=2; did you mean '--batch'?"] = launched
    for message, ended in messages.items():
        assert ended.returncode == 1
        output = ended.stdout + ended.stderr
        assert "Traceback" not in output
        errors = [line for line in output.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert message in errors[0]


def test_help_is_quick_and_whole():
    """--help that waits for torch, or that fails, is the first thing a user meets."""
    for script in ("train.py", "test.py", "interactive_test.py"):
        done = launch(sys.executable, "-X", "importtime", script, "--help")
        assert done.returncode == 0
        assert "--deepspeed_config FILE" in done.stdout
        assert not any(line.split()[-1] == "torch" for line in done.stderr.splitlines())
