"""Going on with a run that was stopped: what it was started with, and its last checkpoint in a new engine."""

import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import deepspeed
import torch
from torch import Tensor, nn
from transformers import set_seed

from models.trainable import Trainable
from trainer.ds_config import check_content
from trainer.moments import MOMENTS, set_moments, trained_parameters
from trainer.progress import Progress
from trainer.random_state import set_random_state, shapes
from utils.config.loading import validated
from utils.config.schema import Section
from utils.config.strict_yaml import read_yaml
from utils.distributed import DistributedContext
from utils.errors import UserError, existing_file, shown
from utils.files import to_json, unique_keys
from utils.partitioning import whole_shape
from utils.runs import CONFIG
from utils.tensor_file import Shape, TensorFile
from utils.untrusted import check_links

START = "start.json"
_LARGEST_START = 1 << 20  # bytes
_WRITING = (
    "tensorboard",
    "wandb",
    "csv_monitor",
    "flops_profiler",
)  # sections that write, or send, elsewhere
_SCALE = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


class Start(Section):
    """What a run was started with, beside its configuration."""

    ds_config: dict[str, Any]
    """content of the DeepSpeed configuration"""
    ckpt_path: str | None = None
    """the run whose trained part was the start"""


def start_to_json(start: Start) -> str:
    """The text of start.json."""
    return to_json(start.model_dump(), indent=2) + "\n"


def read_start(folder: Path) -> Start:
    """What a run folder says of its start.

    Raises:
        UserError: it is no run folder of this version.
    """
    if not folder.is_dir():
        raise UserError(f"--resume {folder}: no such folder")
    check_links(folder)
    path = existing_file(folder / START, "--resume: the record of how the run was started", _LARGEST_START)
    try:
        start = Start.model_validate(
            json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique_keys)
        )
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not the record of how a run was started") from None
    check_content(path, start.ds_config)
    return start


def check_places(folder: Path, ds_config: Mapping[str, Any]) -> None:
    """The DeepSpeed configuration in a run folder, which may be somebody else's, writes nowhere else.

    Raises:
        UserError: it does, by its key.
    """
    zero = ds_config.get("zero_optimization", {})
    named = [name for name in _WRITING if ds_config.get(name, {}).get("enabled")]
    named += [
        f"zero_optimization.{key}.nvme_path"
        for key in ("offload_param", "offload_optimizer")
        if (zero.get(key) or {}).get("nvme_path") is not None
    ]
    if named:
        raise UserError(
            f"{folder / START}: {named[0]} of its DeepSpeed configuration writes outside of the run; where that is "
            "meant, give the configuration with --deepspeed_config"
        )


def check_same_config(folder: Path, config: Any) -> None:
    """A resumed run has the settings that it was started with; a key that came later had its default then.

    Raises:
        UserError: one of them is another, by its key.
    """
    path = folder / CONFIG
    there = _flat(validated([(str(path), read_yaml(path))], type(config)).model_dump(mode="json"))
    now = _flat(config.model_dump(mode="json"))
    for key in sorted(there.keys() | now.keys()):
        if there.get(key) != now.get(key):
            raise UserError(
                f"{folder / CONFIG}: {key} = {shown(there.get(key))}, not {shown(now.get(key))}: a resumed run keeps "
                "its settings"
            )


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections by `section.key`."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


class Resumed(NamedTuple):
    """A checkpoint that a training goes on from."""

    file: TensorFile
    progress: Progress
    seed: int
    """of the run"""

    def restore_random_state(self, distributed: DistributedContext) -> None:
        """This rank's random states; new ones where the number of ranks is another.

        Raises:
            UserError: there are none, or they are no random states.
        """
        if self.progress.ranks != distributed.size:
            # as at the start of a run, but of a seed that no other step has
            set_seed((self.seed + distributed.rank + 1_000_003 * self.progress.steps) % 2**32)
            return
        found = {}
        for name, shape in shapes().items():
            stored = f"random/{distributed.rank}/{name}"
            if name == "accelerator" and stored not in self.file:  # written on another kind of device
                continue
            found[name] = self.file.needed(stored, shape)
        set_random_state(found, str(self.file.path))

    def restore(self, engine: deepspeed.DeepSpeedEngine, total_steps: int) -> None:
        """Adam's states, the learning rate's schedule, counters and loss scale, in a new engine.

        Args:
            engine: with the checkpoint's values already; before its first step.
            total_steps: of the whole training, with this number of ranks. Where it is another one than before, the
                schedule goes on at the same share of the training.

        Raises:
            UserError: the checkpoint is of another model.
        """
        file, progress = self.file, self.progress
        parameters = dict(trained_parameters(engine))
        if progress.updates.keys() != parameters.keys():
            raise UserError(f"{file.path}: its progress names other parameters than the model has")
        batches = engine.gradient_accumulation_steps()
        if progress.accumulation_steps != batches:
            raise UserError(
                f"{file.path}: {progress.accumulation_steps} batches per step, not {batches}: "
                "gradient_accumulation_steps of a resumed run stays"
            )
        moments = {name: _moments(file, name, parameter) for name, parameter in parameters.items()}
        set_moments(engine, dict(progress.updates), moments)
        if engine.lr_scheduler is not None:
            with warnings.catch_warnings():
                warnings.filterwarnings(
                    "ignore", message=".*lr_scheduler.step.*"
                )  # no step of Adam came before
                for _ in range(self.scheduled(total_steps)):
                    engine.lr_scheduler.step()
        engine.global_steps, engine.skipped_steps = progress.steps, progress.skipped
        engine.global_samples, engine.micro_steps = progress.samples, progress.micro_steps
        scaler = getattr(engine.optimizer, "loss_scaler", None)
        for name, value in progress.loss_scale.items():
            if name in _SCALE and hasattr(scaler, name):
                setattr(scaler, name, value if name == "cur_scale" else int(value))

    def scheduled(self, total_steps: int) -> int:
        """Steps of the learning rate's schedule that are behind this training, of so many of the whole."""
        there, of_all = self.progress.scheduled, max(1, self.progress.total_steps)
        return there * total_steps // of_all

    def check_files(self, known: Mapping[str, Any]) -> None:
        """The files that the training rests on are those that it began with.

        Args:
            known: hashes by key, as `trainer.checkpoints.run_metadata` has them.

        Raises:
            UserError: one of them is another.
        """
        for key, hash_ in self.progress.files.items():
            if known.get(key) != hash_:
                name = key.removesuffix("_sha256")
                raise UserError(
                    f"{known.get(name, name)} has changed since the run began; a resumed run needs it as it was"
                )


class TrainedValues(Mapping[str, Tensor]):
    """The trained parameters of a checkpoint by name, each read when it is asked for.

    Args:
        file: the checkpoint.
    """

    def __init__(self, file: TensorFile) -> None:
        self.file = file
        self.names = [name.removeprefix("value/") for name in file if name.startswith("value/")]

    def __getitem__(self, name: str) -> Tensor:
        tensor = self.file[f"value/{name}"]
        return self.file.needed(f"value/{name}", Shape(torch.float32, tuple(tensor.shape)))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def load_values(module: Trainable, file: TensorFile) -> TrainedValues:
    """Give a module the trained values of a checkpoint; they are returned.

    Raises:
        UserError: they are of another model.
    """
    values = TrainedValues(file)
    module.load_trained_state(values, str(file.path))
    return values


def loss_scale(engine: deepspeed.DeepSpeedEngine) -> dict[str, float]:
    """The state of float16's loss scale; empty where there is none."""
    scaler = getattr(engine.optimizer, "loss_scaler", None)
    return {name: float(getattr(scaler, name)) for name in _SCALE if hasattr(scaler, name)}


def _moments(file: TensorFile, name: str, parameter: nn.Parameter) -> Iterator[Tensor]:
    shape = Shape(torch.float32, tuple(whole_shape(parameter)))
    for kind in MOMENTS:
        yield file.needed(f"{kind}/{name}", shape)
