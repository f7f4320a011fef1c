"""What a run keeps: checkpoints that a training goes on from, and the trained part with its metadata.

A checkpoint is one file, `ds_ckpt/step-<n>.safetensors`: the float32 value of each trained parameter with Adam's two
moments, whole, so that it depends on neither ZeRO stage nor number of ranks; the statistics of the module; the random
states of all ranks; and the progress as JSON. It has its name only when all of it is on the disk, and then the mark
`latest` names it, and the mark `best` where it is that. No pickle is written or read.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import deepspeed
import torch
from torch import Tensor

from models.trainable import Trainable
from trainer.float32 import get_float32
from trainer.moments import MOMENTS, read_moments, trained_parameters
from trainer.progress import Progress, progress_from_json, progress_to_json
from trainer.random_state import random_state
from utils.distributed import DistributedContext
from utils.errors import UserError, shown
from utils.files import file_sha256, write_errors, write_whole
from utils.folders import remove_parts
from utils.partitioning import whole_shape
from utils.runs import CHECKPOINTS, library_versions
from utils.tensor_file import Shape, TensorFile, write_tensors
from utils.untrusted import check_link

LATEST, BEST = "latest", "best"
ADVICE = "Try a lower --lr, --grad_clip=1, or a wider precision"
"""what to do about values that are not finite"""
_TAG = re.compile(r"step-[0-9]{1,15}", re.ASCII)
_PROGRESS = "progress"


def save_checkpoint(
    engine: deepspeed.DeepSpeedEngine,
    folder: Path,
    progress: Progress,
    distributed: DistributedContext,
    is_best: bool = False,
) -> None:
    """Write `ds_ckpt/step-<n>.safetensors` and move the marks; what no mark names any more is removed.

    Every rank must call it.

    Args:
        engine: between two steps.
        folder: the run folder.
        progress: the same on every rank.
        distributed: the processes.
        is_best: also move the mark `best`.

    Raises:
        UserError: it cannot be written, or what was trained is not finite; earlier ones are as they were.
    """
    states = distributed.gather(random_state())
    shapes: dict[str, Shape] = {}
    for name, parameter in trained_parameters(engine):
        moments = MOMENTS if progress.updates[name] else ()
        for kind in ("value", *moments):
            shapes[f"{kind}/{name}"] = Shape(torch.float32, tuple(whole_shape(parameter)))
    for name, value in engine.module.statistics.items():
        shapes[f"value/{name}"] = Shape(torch.float32, tuple(value.shape))
    for rank, state in enumerate(states):
        for name, tensor in state.items():
            shapes[f"random/{rank}/{name}"] = Shape(tensor.dtype, tuple(tensor.shape))

    def tensors() -> Iterator[Tensor]:
        yield from _trained_tensors(engine, progress, folder)
        yield from (value.float() for value in engine.module.statistics.values())
        for state in states:
            yield from state.values()

    if distributed.is_main:
        place, tag = folder / CHECKPOINTS, f"step-{progress.steps}"
        with write_errors(place):
            place.mkdir(exist_ok=True)
        metadata = {_PROGRESS: progress_to_json(progress)}
        write_whole(
            place / f"{tag}.safetensors", lambda part: write_tensors(part, shapes, tensors(), metadata)
        )
        for mark in (LATEST, BEST) if is_best else (LATEST,):
            write_whole(place / mark, tag + "\n")
        _remove_unmarked(place)
    else:
        for _ in tensors():
            pass
    distributed.barrier()


def _trained_tensors(engine: deepspeed.DeepSpeedEngine, progress: Progress, folder: Path) -> Iterator[Tensor]:
    for name, parameter in trained_parameters(engine):
        found = [get_float32(parameter).float()]
        if progress.updates[name]:
            found += read_moments(engine, parameter)
        if not all(torch.isfinite(tensor).all() for tensor in found):
            raise UserError(
                f"step {progress.steps}: {name} or its Adam state is not finite, and not saved; {last_good(folder)}. "
                f"{ADVICE}"
            )
        yield from found


def _remove_unmarked(place: Path) -> None:
    kept = {f"{tag}.safetensors" for mark in (LATEST, BEST) if (tag := read_mark(place / mark))}
    for path in place.iterdir():
        is_checkpoint = _TAG.fullmatch(path.stem) and path.suffix == ".safetensors"
        # a write that was killed leaves its part
        if (is_checkpoint and path.name not in kept) or path.name.startswith(".part-"):
            with write_errors(path):
                path.unlink(missing_ok=True)


def read_mark(path: Path) -> str | None:
    """The checkpoint that a mark names; None: there is no such mark.

    Raises:
        UserError: it names something else.
    """
    if not os.path.isfile(path):
        return None
    with path.open("rb") as file:
        tag = file.read(200).decode("utf-8", "replace").strip()
    if not _TAG.fullmatch(tag):
        raise UserError(f"{path}: {shown(tag)} is not the name of a checkpoint that --resume can read")
    return tag


def last_good(folder: Path) -> str:
    """Words on the newest checkpoint of a run, for the message that there will be no newer one."""
    tag = read_mark(folder / CHECKPOINTS / LATEST)
    if tag is None:
        return f"no checkpoint was kept in {folder} before"
    return f"the last good checkpoint is {folder / CHECKPOINTS / tag}.safetensors"


def open_checkpoint(folder: Path) -> tuple[TensorFile, Progress] | None:
    """The checkpoint that a run goes on from; None: there is none yet.

    Raises:
        UserError: it is missing, or is no checkpoint of this project.
    """
    place = folder / CHECKPOINTS
    tag = read_mark(place / LATEST)
    if tag is None:
        return None
    path = check_link(place / f"{tag}.safetensors", folder)
    if not os.path.isfile(path):
        raise UserError(f"{place / LATEST} names {path.name}, which is not there")
    file = TensorFile(path)
    return file, progress_from_json(file.metadata.get(_PROGRESS, ""), str(path))


def save_trained(
    module: Trainable, folder: Path, distributed: DistributedContext, metadata: Mapping[str, Any]
) -> None:
    """The trained part, in the float32 values that were trained, whatever the module's own precision.

    Every rank must call it.

    Raises:
        UserError: it cannot be written, or is not finite; an earlier one is as it was.
    """
    state = _trained_float32(module, folder, distributed)
    if distributed.is_main:
        remove_parts(folder)  # of a save that was killed; a whole LM takes up much room
        module.save_trained(folder, state, metadata)
    distributed.barrier()


def _trained_float32(module: Trainable, folder: Path, distributed: DistributedContext) -> dict[str, Tensor]:
    """The trained parameters by name, float32 and on the CPU; on the other ranks nothing is kept."""
    state = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            value = get_float32(parameter)
            if not torch.isfinite(value).all():  # on every rank, as the value is whole
                raise UserError(f"{name} is not finite, and not saved; {last_good(folder)}. {ADVICE}")
            if distributed.is_main:
                state[name] = value.float().cpu().contiguous()
    if distributed.is_main:
        state |= {name: value.float().cpu().contiguous() for name, value in module.statistics.items()}
    return state


def run_metadata(module: Trainable, files: Mapping[str, str], seed: int) -> dict[str, Any]:
    """What one must know to use the trained part: the module's own words, files with hashes, seed, versions.

    Args:
        module: gives its `metadata`.
        files: paths by key; the hash of each is under `{key}_sha256`.
        seed: of the run.
    """
    metadata = module.metadata()
    for key, path in files.items():
        metadata |= {key: path, f"{key}_sha256": file_sha256(path)}
    return {**metadata, "seed": seed, "versions": library_versions()}
