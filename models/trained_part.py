"""The trained part of a run folder: safetensors with its metadata beside it, written together and read strictly.

Nothing that is read here can run code: safetensors, and tensors through a restricted reader.
"""

import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.release.checkpoint import FLOATS, read_module_state
from models.release.names import from_released, is_released_name
from utils.errors import UserError, existing_file, first_line, shown
from utils.files import to_json, unique_keys, write_together
from utils.runs import CHECKPOINTS, METADATA, TRAINED, trained_file
from utils.untrusted import check_header, check_link

_LONGEST_TAG = 200
_LARGEST_METADATA = 1 << 20  # bytes


def write_trained(folder: Path, state: dict[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write the trained parameters and their metadata to a run folder.

    Args:
        folder: the run folder.
        state: tensors by name, contiguous and on the CPU.
        metadata: plain values.

    Raises:
        UserError: one of the files cannot be written; earlier ones are as they were.
    """
    # the metadata is written last: weights of one step never lie beside what is said of another
    write_together(folder, {TRAINED: partial(save_file, state), METADATA: to_json(metadata, indent=2) + "\n"})


def read_trained(run: Path) -> tuple[dict[str, Tensor], Path]:
    """The trained parameters of a run folder, and the file that they came from.

    Raises:
        UserError: there is no checkpoint, or it cannot be read.
    """
    source = trained_file(run)
    if source is not None:
        check_link(source, run)
        try:
            check_header(source)
            state = load_file(source)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{source}: not a readable safetensors file: {first_line(error)}") from None
    else:
        place = run / CHECKPOINTS
        if os.path.isdir(place) and any(place.glob("step-*.safetensors")):
            raise UserError(
                f"{run}: no trained part yet, as no validation was finished; go on with train.py --resume={run}"
            )
        source = run / CHECKPOINTS / _tag(run) / "mp_rank_00_model_states.pt"
        if not os.path.isfile(source):
            raise UserError(f"{run}: no checkpoint ({TRAINED} or {source.relative_to(run)}); train it first")
        state = from_released(read_module_state(source, is_released_name), str(source))
    for name, tensor in state.items():
        if tensor.dtype not in FLOATS or not torch.isfinite(tensor).all():
            raise UserError(f"{source}: {shown(name)} holds values that are no finite floating-point numbers")
    return state, source


def trained_metadata(run: Path) -> dict[str, Any]:
    """What stands beside the trained part of a run folder: untrusted values.

    Raises:
        UserError: nothing does, or it is no JSON object.
    """
    path = existing_file(check_link(run / METADATA, run), "metadata", _LARGEST_METADATA)
    try:
        found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique_keys)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read: {first_line(error)}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: {shown(found)}, expected an object")
    return found


def _tag(run: Path) -> str:
    """The authors' files name the tag in ds_ckpt/latest; a name with a path in it is refused."""
    latest = run / CHECKPOINTS / "latest"
    if os.path.isdir(run / CHECKPOINTS / "best") or not os.path.isfile(latest):
        return "best"
    with latest.open("rb") as file:
        tag = file.read(_LONGEST_TAG + 1).decode("utf-8", "replace").strip()
    if not tag or len(tag) > _LONGEST_TAG or not tag.isprintable() or Path(tag).name != tag:
        raise UserError(f"{latest}: {shown(tag)} is not the name of a checkpoint")
    return tag
