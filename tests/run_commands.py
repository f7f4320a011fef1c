"""Runs several `python ..` commands as their user would, each in a process forked from one that has the libraries.

python -m tests.run_commands COMMANDS.json FOLDER: the first holds pairs of words and standard input; what command
number n printed goes to FOLDER/n.out, and its exit status is in the list FOLDER/status.json.
"""

import json
import os
import runpy
import sys
import traceback
from pathlib import Path

import trainer.training  # noqa: F401 (imported once for all commands; it takes seconds)
from models import dialogue_task  # noqa: F401
from models.decoding import decode  # noqa: F401


def run(words: list[str], typed: Path, output: Path) -> int:
    """The exit status of `python WORDS`, whose standard input is `typed`."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    for descriptor, file in ((0, typed.open("rb")), (1, output.open("wb")), (2, None)):
        os.dup2(1 if file is None else file.fileno(), descriptor)
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


def main() -> None:
    """Run them in turn."""
    given, folder = map(Path, sys.argv[1:])
    statuses = []
    for number, (words, typed) in enumerate(json.loads(given.read_text(encoding="utf-8"))):
        (folder / f"{number}.in").write_text(typed, encoding="utf-8")
        statuses.append(run(words, folder / f"{number}.in", folder / f"{number}.out"))
    (folder / "status.json").write_text(json.dumps(statuses), encoding="utf-8")


if __name__ == "__main__":
    main()
