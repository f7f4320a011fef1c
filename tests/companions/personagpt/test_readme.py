"""Every command of PersonaGPT's README.md is run, on stand-ins for the LMs and the data that it names."""

import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from companions.personagpt import register_personagpt
from companions.personagpt.sample import generate
from models.configuration import load_config
from tests.companions.personagpt.golden import GOLDEN
from tests.conftest import ROOT, head_of
from tests.documents import TEXTS, commands
from tests.helpers import launch
from tests.run_commands import Command, Ended, run_commands

README = TEXTS["companions/personagpt/README.md"]
COMMANDS = sorted(set(commands(README)))
ELSEWHERE = {
    "make demo-personagpt": "its plan is made below, its steps are run in test_demo.py",
    "python -m dataset.convai2.download convai2": "a command of the project's README.md",
}
ACTIONS = "data_file/personagpt/actions.csv"
TYPED = "hello !\n1\nexit\n"
ORDER = ("preprocess", "train", "evaluate ", "interact", "learn", "evaluate_runs")  # what the later ones read


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, Path]:
    """What stands for the names in the README."""
    folder = tmp_path_factory.mktemp("readme")
    for name, dialogues in ((generate.TRAIN_NAME, 2), (generate.VALID_NAME, 1)):
        (folder / name).write_text(head_of(generate.FOLDER / name, dialogues), encoding="utf-8")
    actions = (generate.FOLDER / generate.ACTIONS_NAME).read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "actions.csv").write_text("".join(actions[:5]), encoding="utf-8")
    run = folder / "runs" / "RUN"
    shutil.copytree(GOLDEN / "lm", run / "model")
    content = {
        "model": {"model_type": "personagpt", "model_name": str(GOLDEN / "lm")},
        "dataset": {"valid": str(folder / generate.VALID_NAME)},
        "chat": {"max_new_tokens": 4},
        "decoding": {"max_new_tokens": 4},
    }
    (run / "config.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return {"folder": folder, "run": run}


def arguments(command: str, places: dict[str, Path]) -> list[str]:
    """A command with stand-ins, as what comes after `python`."""
    folder, run = places["folder"], places["run"]
    words = shlex.split(command)[1:]
    if "--resume=RUN" in words:  # what it does: test_resume.py
        return [*(word for word in words if "=" not in word), "--help"]
    stand_ins = {
        "--out=data_file/personagpt": f"--out={folder / 'prepared'}",
        f"--actions={ACTIONS}": f"--actions={folder / 'actions.csv'}",
        "--model_path=RUN": f"--model_path={run}",
        "--model_path=FOLDER": f"--model_path={GOLDEN / 'lm'}",
        "model.model_name=FOLDER": f"model.model_name={GOLDEN / 'lm'}",
        "model.action_prompt=A": "model.action_prompt=A",
        "--out=runs_personagpt/published": f"--out={folder / 'published'}",
        "--out=corrections.jsonl": f"--out={folder / 'corrections.jsonl'}",
        "--main_path=runs_personagpt": f"--main_path={folder / 'runs'}",
    }
    assert all(
        word in stand_ins for word in words if "=" in word and "config=" not in word and "mode=" not in word
    )
    words = [stand_ins.get(word, word) for word in words]
    data = {name: str(folder / getattr(generate, f"{name.upper()}_NAME")) for name in ("train", "valid")}
    if "companions.personagpt.preprocess_dataset" in words:
        words += [f"--{name}={path}" for name, path in data.items()]
    if "companions.personagpt.train" in words:
        words += [f"--set=dataset.{name}={path}" for name, path in data.items()]
        words += [
            f"--set=dataset.actions={folder / 'actions.csv'}",
            f"--set=model.model_name={GOLDEN / 'lm'}",
        ]
        words += [f"--log_dir={folder / 'runs'}", "--epoch=1"]
    if "companions.personagpt.evaluate" in words:
        words += ["--openings=2", f"--valid_path={data['valid']}", "--max_new_tokens=4"]
    if "companions.personagpt.learn" in words:
        words += [f"--profiles={data['valid']}"]
    return words


@pytest.fixture(scope="module")
def done(places, tmp_path_factory) -> dict[str, Ended]:
    """Status and output of each command."""
    wanted = [command for command in COMMANDS if command not in ELSEWHERE]
    wanted.sort(key=lambda command: [part in command for part in ORDER], reverse=True)
    calls = [Command(arguments(command, places), TYPED) for command in wanted]
    return dict(zip(wanted, run_commands(calls, tmp_path_factory.mktemp("outputs")), strict=True))


def test_training_reads_the_action_data_that_the_readme_names():
    """Whoever copies the commands in their order would be told that a file is missing that nothing makes."""
    register_personagpt()
    assert f"--actions={ACTIONS}" in README
    assert load_config(ROOT / "config/personagpt/control.yml").dataset.actions == ACTIONS


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs(command, done):
    """A reader who copies a command meets a flag, a file or a module that is gone."""
    if command.startswith("make "):
        planned = launch("make", "-n", "--always-make", *shlex.split(command)[1:])
        assert planned.returncode == 0, planned.stderr
        assert "companions.personagpt.demo" in planned.stdout
    elif command in ELSEWHERE:
        assert command in commands(TEXTS["README.md"])
    else:
        assert done[command].status == 0, done[command].output
        assert "Traceback" not in done[command].output


@pytest.mark.slow
def test_the_commands_did_their_work(done, places):
    """A command that ends well and writes nothing is no better than one that fails."""
    assert sorted(path.name for path in (places["folder"] / "prepared").iterdir()) == [
        "active_data.jsonl",
        "train_data.jsonl",
        "valid_data.jsonl",
    ]
    runs = {path.name.partition("_")[0] for path in (places["folder"] / "runs").iterdir() if path.is_dir()}
    assert runs == {"RUN", "pretrain", "control"}
    assert (places["run"] / "evaluation.json").is_file()
    assert (places["folder"] / "published" / "evaluation.json").is_file()
    assert "f1_parlai" in (places["folder"] / "runs" / "results.txt").read_text(encoding="utf-8")
