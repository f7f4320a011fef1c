"""Runs several `python ..` commands as their user would, each in processes forked from one that has the libraries.

Their imports take longer than most of what tests let them do. With several ranks a command gets the variables and the
flag that the launcher gives it; the launcher itself runs in tests/test_commands.py and tests/trainer/test_two_ranks.py.
"""

import json
import os
import runpy
import socket
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from utils.console import quiet_libraries


@dataclass(frozen=True)
class Command:
    """A command.

    Args:
        words: what comes after `python`.
        typed: its standard input.
        ranks: how many processes there are of it.
    """

    words: Sequence[str]
    typed: str = ""
    ranks: int = 1


@dataclass(frozen=True)
class Ended:
    """The exit status of each rank of a command, negative where a signal ended it, and what each printed."""

    statuses: list[int]
    outputs: list[str]

    @property
    def status(self) -> int:
        """0 when every rank ended well."""
        return next((status for status in self.statuses if status), 0)

    @property
    def output(self) -> str:
        """What all ranks printed."""
        return "".join(self.outputs)


def run_commands(commands: Sequence[Command], folder: Path) -> list[Ended]:
    """Run commands one after the other; `folder` is for what they print, in RANK.out of a folder for each."""
    from tests.helpers import launch  # imports the libraries, which the program first makes quiet

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "commands.json").write_text(json.dumps([asdict(each) for each in commands]), encoding="utf-8")
    ran = launch(sys.executable, "-m", "tests.run_commands", str(folder))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    statuses = json.loads((folder / "status.json").read_text(encoding="utf-8"))
    return [
        Ended(ours, [_output(folder, number, rank).read_text(encoding="utf-8") for rank in range(len(ours))])
        for number, ours in enumerate(statuses)
    ]


def _output(folder: Path, number: int, rank: int) -> Path:
    return folder / str(number) / f"{rank}.out"


def _start(words: list[str], typed: Path, output: Path, variables: Mapping[str, str]) -> int:
    """Process id of a new `python WORDS`, whose standard input is `typed`."""
    process = os.fork()
    if process:
        return process
    for descriptor, file in ((0, typed.open("rb")), (1, output.open("wb")), (2, None)):
        os.dup2(1 if file is None else file.fileno(), descriptor)
    os.environ.update(variables)
    status = 1
    try:
        is_module = words[0] == "-m"
        sys.argv = words[1:] if is_module else list(words)
        if is_module:
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[0], run_name="__main__")
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _run(command: Command, folder: Path, number: int) -> list[int]:
    """The exit status of each rank."""
    typed = _output(folder, number, 0).with_name("typed")
    typed.parent.mkdir()
    typed.write_text(command.typed, encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    everybody = {"WORLD_SIZE": str(command.ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = []
    for rank in range(command.ranks):
        words, variables = list(command.words), {}
        if command.ranks > 1:
            words.insert(2 if words[0] == "-m" else 1, f"--local_rank={rank}")
            variables = {**everybody, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        processes.append(_start(words, typed, _output(folder, number, rank), variables))
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]


def main() -> None:
    """Run the commands of a folder in turn."""
    quiet_libraries()
    # imported once for all commands
    import trainer.training  # noqa: F401
    from models import dialogue_task  # noqa: F401
    from models.decoding import decode  # noqa: F401

    folder = Path(sys.argv[1])
    commands = json.loads((folder / "commands.json").read_text(encoding="utf-8"))
    statuses = [_run(Command(**each), folder, number) for number, each in enumerate(commands)]
    (folder / "status.json").write_text(json.dumps(statuses), encoding="utf-8")


if __name__ == "__main__":
    main()
