"""Steps that follow from one another, each in a folder of its own: what stands is not made again.

The folder of a step holds `step.json`: its commands, the hashes of the files that it reads from outside, and which
making of the steps before it it rests on. Where one of these is not the same any more, or something that it made is
not there, the step is made anew, and so is everything after it. It holds the versions of the libraries and of the
project's code, too: where these differ, that is told, and what stands is kept, as hours of an LM's work hang on it.
"""

import hashlib
import json
import re
import secrets
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from glob import escape
from pathlib import Path
from typing import Any

from companions.lamp.lm.evaluate import made_folder
from trainer.resume import START
from utils.distributed import DistributedContext
from utils.errors import UserError, existing_file
from utils.files import file_sha256, to_json, write_errors, write_whole
from utils.folders import remove_folder
from utils.liveness import together
from utils.runs import CONFIG, library_versions

RECORD = "step.json"
_ROOT = Path(__file__).resolve().parents[3]
_CODE = ("companions/lamp", "dataset", "models", "trainer", "utils")


@dataclass(frozen=True)
class Command:
    """One command of the companion."""

    module: str
    """such as `companions.lamp.rank_profiles`"""
    words: tuple[str, ...]
    """its arguments; a `*` in one of them stands for the time in the name of a run folder"""

    def expanded(self) -> "Command":
        """With the names of the run folders, which are known when the steps before have ended."""
        return Command(self.module, tuple(_expanded(word) for word in self.words))

    def shown(self) -> str:
        """What a user would type."""
        return f"python -m {self.module} {shlex.join(self.words)}"


Run = Callable[[Command, DistributedContext], None]


@dataclass(frozen=True)
class Step:
    """Some commands that make one thing."""

    name: str
    """of its folder"""
    title: str
    commands: tuple[Command, ...]
    after: tuple[str, ...] = ()
    """names of the steps whose results it reads"""
    files: tuple[str, ...] = ()
    """files, or folders of files, from outside that it reads"""
    resumes: bool = False
    """its commands go on where they were interrupted; others begin anew"""
    run: str = ""
    """the run folder that its training makes, with a `*` for the time; interrupted, it goes on there by `--resume`"""


def run_steps(steps: Sequence[Step], folder: Path, distributed: DistributedContext, run: Run) -> list[str]:
    """Make whatever does not stand yet.

    Args:
        steps: each after those that it needs.
        folder: where each has its folder.
        distributed: the processes; all of them call this.
        run: runs one command; every process calls it.

    Returns:
        The names of the steps that were made.

    Raises:
        UserError: what is wrong with a step, or a folder that is none of a step.
    """
    makings: dict[str, str] = {}
    made = []
    for number, step in enumerate(steps, start=1):
        own = folder / step.name
        stands, record, other, begun = False, dict[str, Any](), "", None
        with together(distributed):
            if distributed.is_main:
                wanted, there = _record(step, makings, folder), _read(own)
                stands = _stands(own, there, wanted)
                record = there if stands else _begin(own, there, wanted, step)
                other, begun = _other_versions(own, record, wanted), _begun_run(step)
        stands, makings[step.name], begun = distributed.share((stands, record.get("making"), begun))
        head = f"\n=== {number}/{len(steps)} {step.title}"
        if stands:
            distributed.say(f"{head}: stands in {own}{other}")
            continue
        distributed.say(head + other)
        for command in step.commands:
            with together(distributed):
                command = command.expanded()
            if begun:
                command = replace(command, words=(*command.words, f"--resume={begun}"))
            distributed.say(f"$ {command.shown()}")
            run(command, distributed)
        with together(distributed):
            if distributed.is_main:
                _write(own, record | {"made": _sizes(own)})
        made.append(step.name)
    return made


def _expanded(word: str) -> str:
    """A word with the newest of the paths that it stands for; `NAME=` before a path stays."""
    if "*" not in word:
        return word
    # a folder may have a name with "=" in it
    for name, path in (("", word), (word.partition("=")[0] + "=", word.partition("=")[2])):
        if path and (found := _matching(path)):
            return f"{name}{found[-1]}"
    raise UserError(f"{word}: nothing there, though the step before has ended; remove that step's folder")


def _matching(path: str) -> list[Path]:
    """What a path with a `*` stands for."""
    root = Path("/" if path.startswith("/") else ".")
    return sorted(root.glob(path.lstrip("/")))


def _begun_run(step: Step) -> str | None:
    """The run folder in which a training can go on; None: there is none."""
    found = _matching(step.run) if step.run else []
    begun = [path for path in found if (path / START).is_file() and (path / CONFIG).is_file()]
    return str(begun[-1]) if begun else None


def _record(step: Step, makings: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """What a step rests on; `key` is a hash of it, in which the chain's folder has no name: it may be moved."""
    rests_on: dict[str, Any] = {
        "commands": [[command.module, *command.words] for command in step.commands],
        "files": {str(path): _sha256(path) for path in _files(step.files)},
        "after": {name: makings[name] for name in step.after},
    }
    places = "|".join(re.escape(place) for place in (str(folder), escape(str(folder))))
    inside = re.compile(rf"(^|=)(?:{places})(?=/|$)")
    words = [[inside.sub(r"\1", word) for word in command] for command in rests_on["commands"]]
    key = hashlib.sha256(to_json({**rests_on, "commands": words}).encode()).hexdigest()
    return {"key": key, **rests_on, "versions": library_versions() | {"code": code_version()}}


def _other_versions(folder: Path, record: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What is to be said of a result that was made, or begun, with other versions than today's."""
    found, now = record.get("versions"), wanted["versions"]
    if found == now:
        return ""
    then = found if isinstance(found, dict) else {}
    others = [f"{name} {then.get(name)}, now {now[name]}" for name in now if then.get(name) != now[name]]
    return f"\n    made with other versions ({'; '.join(others)}); remove {folder} to make it anew"


def _sha256(path: Path) -> str | None:
    """Of a file, which is read once however many steps need it: an LM's has many gigabytes."""
    stat = path.stat()
    return _sha256_of(path, stat.st_size, stat.st_mtime_ns)


@cache
def _sha256_of(path: Path, size: int, changed: int) -> str | None:
    return file_sha256(path)


@cache
def code_version() -> str:
    """A hash of the code that the results come from."""
    files = [path for part in _CODE for path in _files([str(_ROOT / part)]) if path.suffix == ".py"]
    hashes = [str(file_sha256(path)) for path in files]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]


def _files(paths: Iterable[str]) -> list[Path]:
    """The files, with those of folders."""
    found: list[Path] = []
    for path in map(Path, paths):
        found += (
            sorted(one for one in path.rglob("*") if one.is_file())
            if path.is_dir()
            else [existing_file(path, "file")]
        )
    return found


def _stands(folder: Path, there: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Whether the step has ended with the same record, and what it made is there."""
    return there.get("key") == record["key"] and "made" in there and there["made"] == _sizes(folder)


def _begin(folder: Path, there: dict[str, Any], record: Mapping[str, Any], step: Step) -> dict[str, Any]:
    """Make room for a step: what an earlier call left is removed, unless it goes on from there.

    Returns:
        The record as it is in the folder; its `making` is the name of this attempt, which those after it rest on.
    """
    if there.get("key") == record["key"] and "made" not in there:
        # a run names its files by their paths, which are others where the chain's folder was moved
        same_paths = there.get("commands") == record["commands"]
        if step.resumes or (same_paths and _begun_run(step)):
            return there
    made_folder(folder)
    earlier = [path for path in folder.iterdir() if path.name != RECORD]
    if earlier and not there:
        raise UserError(f"{folder} is not the folder of a step: it has no {RECORD}; move it away")
    for (
        path
    ) in earlier:  # the record stays to the end: interrupted here, the folder is still known for a step's
        _remove(path)
    begun = {**record, "making": secrets.token_hex(8)}
    _write(folder, begun)
    return begun


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_folder(path)
    else:
        with write_errors(path):
            path.unlink()


def _read(folder: Path) -> dict[str, Any]:
    """The record of a folder; an empty one where there is none, or none that can be read."""
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(folder: Path, record: Mapping[str, Any]) -> None:
    write_whole(folder / RECORD, to_json(record, indent=1) + "\n")


def _sizes(folder: Path) -> dict[str, int]:
    """The size of every file in a folder, by its name there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / RECORD)
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}
