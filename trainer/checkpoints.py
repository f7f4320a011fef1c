"""What a run keeps: DeepSpeed's checkpoints, and the trained part with its metadata, as the module writes it."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import deepspeed
from torch import Tensor

from models.trainable import Trainable
from trainer.float32 import get_float32
from utils.distributed import DistributedContext
from utils.errors import UserError, first_line
from utils.files import file_sha256, write_errors
from utils.runs import CHECKPOINTS, library_versions


def save_checkpoint(
    engine: deepspeed.DeepSpeedEngine, folder: Path, tag: str, distributed: DistributedContext
) -> None:
    """`ds_ckpt/{tag}`, without frozen parameters; every rank must call it.

    Raises:
        UserError: it cannot be written.
    """
    try:
        with write_errors(folder / CHECKPOINTS / tag):
            engine.save_checkpoint(str(folder / CHECKPOINTS), tag=tag, exclude_frozen_parameters=True)
    except RuntimeError as error:  # torch's own writer does not say what the system said
        free = shutil.disk_usage(folder).free >> 20
        raise UserError(
            f"cannot write {folder / CHECKPOINTS / tag}: {first_line(error)} ({free} MiB are left on its disk)"
        ) from error
    distributed.barrier()


def save_trained(
    module: Trainable, folder: Path, distributed: DistributedContext, metadata: Mapping[str, Any]
) -> None:
    """The trained part, in the float32 values that were trained, whatever the module's own precision.

    Every rank must call it.

    Raises:
        UserError: it cannot be written; an earlier one is as it was.
    """
    state = _trained_float32(module, distributed)
    if distributed.is_main:
        module.save_trained(folder, state, metadata)
    distributed.barrier()


def _trained_float32(module: Trainable, distributed: DistributedContext) -> dict[str, Tensor]:
    """The trained parameters by name, float32 and on the CPU; on the other ranks nothing is kept."""
    state = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            value = get_float32(parameter)
            if distributed.is_main:
                state[name] = value.float().cpu().contiguous()
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
