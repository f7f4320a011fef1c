"""Every command in README.md, CONTRIBUTING.md and docs/ is run, on stand-ins for the LMs and the data that it names.

Of `make` only the plan is made, of downloads the arguments are read, and NOT_RUN gives a reason for each of the others.
"""

import re
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from deepspeed.launcher.runner import parse_args as launcher_arguments

from models.decoding.runs import read_run_config
from tests.conftest import ROOT
from tests.documents import TEXTS, code_blocks, commands
from tests.helpers import launch
from tests.run_commands import Command, Ended, run_commands

COMMANDS = sorted(
    {
        command
        for name, text in TEXTS.items()
        if not name.startswith("companions/")  # which have tests of their own
        for command in commands(text)
    }
)
GOLDEN = ROOT / "tests" / "golden"

NOT_RUN = {
    "deepspeed --num_gpus=2 train.py ...": "an ellipsis; two ranks train in tests/trainer/test_two_ranks.py",
    "python -m nltk.downloader wordnet": "needs the network",
    "conda env create -f env.yml && conda activate spt": "installs an environment",
    "pip install .": "installs; tests/test_packaging.py holds what",
    "pip install pre-commit": "installs",
    "python -m tests.benchmark.memory": "measures; see tests/benchmark/test_memory.py",
    "python -m tests.benchmark.start_up --data data_file/ConvAI2/valid_self_original_no_cands.txt --copies 17": (
        "measures; see tests/dataset/test_encoded_cache.py for what it measures"
    ),
    "python -m tests.companions.lamp.benchmark_ranking": (
        "measures; see tests/companions/lamp/test_benchmark_ranking.py"
    ),
    "python -m tests.companions.lamp.lm.benchmark_answers --questions 60 --words 10 --baseline_prompts 40": (
        "measures; see tests/companions/lamp/lm/test_benchmark_answers.py"
    ),
}
TYPED = "hello , how are you ?\nexit\n"


class StandIns:
    """A tiny LM, a few dialogues and decoded runs in the places that the documents name.

    Args:
        folder: holds everything.
        lm: folder of a tiny LM.
        data: dialogue files `train` and `valid`.
        trained_run: the folder of an SPT run.
    """

    def __init__(self, folder: Path, lm: Path, data: dict[str, Path], trained_run: Path) -> None:
        self.lm, self.data, self.runs = lm, data, folder / "runs"
        self.run = Path(shutil.copytree(trained_run, self.runs / "spt"))
        self.published = Path(shutil.copytree(GOLDEN / "published_run", folder / "public_ckpt" / "run"))
        name = read_run_config(self.published).model.model_name
        shutil.copytree(GOLDEN / Path(name).name, folder / "public_ckpt" / name)
        self.json_lines = {kind: folder / f"{kind}.jsonl" for kind in data}
        dialogue = code_blocks(TEXTS["docs/data.md"], "json")[0]
        for path in self.json_lines.values():
            path.write_text(dialogue * 8, encoding="utf-8")

    def arguments(self, command: str) -> list[str] | None:
        """A command with stand-ins, as what comes after `python`; None for one that is not known here.

        The `deepspeed` launcher itself runs in tests/test_commands.py; here its arguments are read.
        """
        program, *words = shlex.split(command)
        if program == "deepspeed":
            launched = launcher_arguments(words)
            words = [launched.user_script, *launched.user_args]
        what = words[1] if words[0] == "-m" else words[0]
        return getattr(self, KNOWN[what])(words) if what in KNOWN else None

    def as_it_is(self, words: list[str]) -> list[str]:
        """Nothing to replace."""
        return words

    def train(self, words: list[str]) -> list[str]:
        """A few steps on tiny data, wherever the command does not say which data; or a run that is finished."""
        if "--resume=RUN" in words:
            return self.of_run(words)
        for kind, path in self.json_lines.items():
            words = [word.replace(f"={kind}.jsonl", f"={path}") for word in words]
        words = [word.replace("=FOLDER", f"={self.lm}") for word in words]
        given = {word.partition("=")[0] for word in words}
        tiny = {
            "model.model_name": self.lm,
            "dataset.train": self.data["train"],
            "dataset.valid": self.data["valid"],
        }
        for key, value in tiny.items():
            words += [] if key in given else ["--set", f"{key}={value}"]
        return [*words, "--training_ratio=0.2", f"--log_dir={self.runs}"]

    def decode(self, words: list[str]) -> list[str]:
        """The run folder, ours or the authors'."""
        if "--model_path=public_ckpt/RUN" in words:
            words = [word.replace("public_ckpt/RUN", str(self.published)) for word in words]
            return [*words, f"--valid_path={self.published / 'valid.txt'}"]
        return self.of_run(words)

    def of_run(self, words: list[str]) -> list[str]:
        """The run folder."""
        return [word.replace("=RUN", f"={self.run}") for word in words]

    def of_router(self, words: list[str]) -> list[str]:
        """The run folder, and a file of enough dialogues to fit on."""
        words = [str(self.run) if word == "RUN" else word for word in words]
        return [*words, f"--valid_path={self.data['train']}"]

    def of_runs(self, words: list[str]) -> list[str]:
        """The parent of the run folders."""
        return [re.sub("=(runs_ds_dev|FOLDER)$", f"={self.runs}", word) for word in words]

    def collect(self, words: list[str]) -> list[str]:
        """A few tests are found, not run: all of them take seconds, and this one is among them."""
        return [*words, "--collect-only", "tests/dataset/test_text.py"]

    def help(self, words: list[str]) -> list[str]:
        """Arguments are read, nothing is fetched: tests/dataset/convai2/test_download.py has a server."""
        return [*words, "--help"]


KNOWN = {
    "train.py": "train",
    "utils.doctor": "train",
    "test.py": "decode",
    "interactive_test.py": "of_run",
    "evaluate_runs_results.py": "of_runs",
    "models.spt.export": "of_run",
    "trainer.fit_router": "of_router",
    "dataset.convai2.download": "help",
    "data_file/sample/generate.py": "as_it_is",
    "pytest": "collect",
}
LAST = ("evaluate_runs_results.py",)  # reads what the others wrote


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory, lm_folder, data, trained_run) -> StandIns:
    """What stands in the places that the documents name."""
    return StandIns(tmp_path_factory.mktemp("docs"), lm_folder("opt"), data, trained_run)


@pytest.fixture(scope="module")
def done(stand_ins, tmp_path_factory) -> dict[str, Ended]:
    """Status and output of every `python` and `deepspeed` command of the documents."""
    folder = tmp_path_factory.mktemp("commands")
    wanted = [command for command in COMMANDS if command not in NOT_RUN and not command.startswith("make ")]
    wanted.sort(key=lambda command: any(script in command for script in LAST))
    arguments = {command: stand_ins.arguments(command) for command in wanted}
    wanted = [command for command in wanted if arguments[command]]
    calls = [Command(arguments[command], TYPED) for command in wanted]
    return dict(zip(wanted, run_commands(calls, folder), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs(command, done):
    """A reader who copies a command meets a flag, a file or a module that is gone."""
    if command in NOT_RUN:
        pytest.skip(NOT_RUN[command])
    if command.startswith("make "):
        planned = launch("make", "-n", "--always-make", *shlex.split(command)[1:])
        assert planned.returncode == 0, planned.stderr
        modules = re.findall(r"^\S+/python -m ([\w.]+)", planned.stdout, re.MULTILINE)
        assert all(find_spec(module) for module in modules), modules
        return
    assert command in done, "no stand-in for this command: name it in KNOWN, or in NOT_RUN with a reason"
    assert done[command].status == 0, done[command].output
    assert "Traceback" not in done[command].output


def test_what_is_not_run_is_there():
    """A reason that outlives its command would excuse the next one of that name."""
    assert NOT_RUN.keys() - set(COMMANDS) == set()
    assert {command.split()[0] for command in COMMANDS} == {"make", "python", "deepspeed", "pip", "conda"}


@pytest.mark.slow
def test_the_commands_did_their_work(done, stand_ins):
    """A command that ends well and writes nothing is no better than one that fails."""
    assert len([run for run in stand_ins.runs.iterdir() if (run / "trained.safetensors").is_file()]) == 6
    for run in (stand_ins.run, stand_ins.published):
        assert (run / "evaluation_result.jsonl").is_file()
    assert (stand_ins.run / "peft" / "prompt_0" / "adapter_config.json").is_file()
    assert "rougeL" in (stand_ins.runs / "results.txt").read_text(encoding="utf-8")
    (chat,) = [ended.output for command, ended in done.items() if "interactive_test.py" in command]
    assert "you> hello , how are you ?\nbot [prompt " in chat
    assert chat.rstrip().endswith("goodbye")
