"""Run folders: their names, what lies in them, and where they are."""

import os
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from utils.errors import UserError, shown
from utils.folders import new_folder

CONFIG, METRICS = "config.yml", "metrics.jsonl"
CHECKPOINTS = "ds_ckpt"
WHOLE_MODEL = "model"  # folder of a run whose trained part is a model of its own
TRAINED, METADATA = "trained.safetensors", "trained.json"
_OLDER_TRAINED = "soft_prompts.safetensors"  # of folders from before the name was true for every model type
_LIBRARIES = ("torch", "transformers", "deepspeed", "tokenizers", "safetensors")


def run_name(config_path: str | Path, changed: Sequence[tuple[str, Any]], exp_name: str | None = None) -> str:
    """`{stem}_LR=.._SLW=..`: the config's file stem and what the command line changed (docs/method.md, section 5).

    Args:
        config_path: the YAML file.
        changed: pairs of label and value, in the order of the name; None values are left out.
        exp_name: replaces the file stem.

    Raises:
        UserError: `exp_name` is a path.
    """
    if exp_name and (Path(exp_name).name != exp_name or exp_name == ".."):
        raise UserError(f"--exp_name {shown(exp_name)}: a name without a path; --log_dir says where runs lie")
    parts = [exp_name or Path(config_path).stem]
    return "_".join(parts + [f"{label}={value}" for label, value in changed if value is not None])


def create_run_folder(
    log_dir: str | Path, name: str, contents: Mapping[str, str], now: time.struct_time | None = None
) -> Path:
    """Make `{log_dir}/{name}_{YYYY-mm-dd-HHMM}` with its first files; a second run of the minute gets `-2`, and so on.

    Folder and files are there at once, or not at all.

    Args:
        log_dir: is made if need be.
        name: of the run.
        contents: texts by file name, at least one.
        now: the time; by default it is now.

    Raises:
        UserError: the folder cannot be made.
    """
    stamped = Path(log_dir) / f"{name}_{time.strftime('%Y-%m-%d-%H%M', now or time.localtime())}"
    try:
        Path(log_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the run folder {stamped}: {error.strerror}") from None
    for attempt in range(1, 1000):
        folder = stamped if attempt == 1 else stamped.with_name(f"{stamped.name}-{attempt}")
        if new_folder(folder, contents):
            return folder
    raise UserError(f"{stamped} and 999 more exist already; choose another --log_dir or --exp_name")


def find_runs(model_path: str | Path, pattern: str = "*", asked: str = "--model_path") -> list[Path]:
    """The run folders at `model_path`: itself when it holds checkpoints, else its sub-folders that do.

    Args:
        model_path: the folder.
        pattern: which sub-folders.
        asked: what the command line calls the folder, for messages.

    Raises:
        UserError: the folder is missing, or holds no run with a checkpoint.
    """
    path = Path(model_path)
    if not os.path.isdir(path):  # Path's own raises for a name that is too long
        raise UserError(f"{asked} {path}: no such folder")
    if is_run(path):
        return [path]
    try:
        runs = sorted(folder for folder in path.glob(pattern) if is_run(folder))
    except (ValueError, NotImplementedError):
        raise UserError(
            f"--path_pattern '{pattern}': no pattern of sub-folders, such as '*LR=0.01*'"
        ) from None
    except OSError as error:  # such as a name that is too long
        raise UserError(f"--path_pattern {shown(pattern)}: {error.strerror}") from None
    if not runs:
        raise UserError(
            f"{asked} {path}: no checkpoint here ({CHECKPOINTS}/ in it or in a sub-folder matching "
            f"'{pattern}'); train with --save_model=yes first"
        )
    return runs


def is_run(folder: Path) -> bool:
    """A folder with checkpoints, or with a trained part or whole model that somebody passed on without them."""
    has_model = (folder / CONFIG).is_file() and (folder / WHOLE_MODEL / "config.json").is_file()
    return has_model or (folder / CHECKPOINTS).is_dir() or trained_file(folder) is not None


def trained_file(folder: Path) -> Path | None:
    """The file of the trained part in a run folder, under its present or its older name; None: there is none."""
    paths = (folder / name for name in (TRAINED, _OLDER_TRAINED))
    return next((path for path in paths if os.path.isfile(path)), None)


def library_versions() -> dict[str, str]:
    """The libraries that a run's numbers rest on."""
    return {library: version(library) for library in _LIBRARIES}
