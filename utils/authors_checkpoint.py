"""Reads the files of the authors' runs as data: a pickle in them can name code, none of it is run.

`checkpoint_best.pth` is `torch.save({"config": DotMap})`, `mp_rank_00_model_states.pt` is DeepSpeed's dict
whose `module` holds the tensors. Both go through PyTorch's weights-only unpickler, which builds tensors and
plain containers and refuses every other global before it is looked up.
"""

import pickle
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from utils.errors import UserError, existing_file, first_line

# A DotMap is pickled as an OrderedDict subclass: its items, then its attributes (`_map` holds the items once
# more). Reading it as an OrderedDict keeps the items, and the dotmap package is not needed.
DOTMAP_AS_DICT = (OrderedDict, "dotmap.DotMap")


def read_config(path: Path) -> dict[str, Any]:
    """The nested `config` of a `checkpoint_best.pth`, as plain dicts, lists and scalars.

    An empty dict stands for a setting that was read but never set: a DotMap creates what is asked of it.

    Raises:
        UserError: missing, damaged or tampered file, or a file without a `config` mapping.
    """
    config = _load(path, "the authors' checkpoint").get("config")
    if not isinstance(config, dict):
        raise UserError(f"{path} holds no 'config' mapping; a checkpoint_best.pth of the authors is needed")
    try:
        return _plain(config, path)
    except RecursionError as error:
        raise UserError(f"{path}: the config is nested without end; the file may be tampered with") from error


def read_module_state(path: Path, wanted: Callable[[str], bool]) -> dict[str, torch.Tensor]:
    """The tensors of a `mp_rank_00_model_states.pt` whose name passes `wanted`, on the CPU, shapes as saved.

    The file is mapped, not read whole, so the frozen language model in it costs no memory; what is returned
    is a copy that does not hold the file open.

    Raises:
        UserError: missing, damaged or tampered file, no `module`, a wanted entry that is not a tensor, or no
            wanted entry at all.
    """
    module = _load(path, "DeepSpeed model states").get("module")
    if not isinstance(module, dict):
        raise UserError(f"{path} holds no 'module'; a DeepSpeed mp_rank_00_model_states.pt is needed")
    state: dict[str, torch.Tensor] = {}
    for name, value in dict.items(module):
        if not isinstance(name, str) or not wanted(name):
            continue
        if not isinstance(value, torch.Tensor):
            raise UserError(f"{path}: '{name}' is a {type(value).__name__}, a tensor is needed")
        state[name] = value.detach().clone(memory_format=torch.contiguous_format)
    if not state:
        names = ", ".join(str(name) for name in list(module)[:3]) or "nothing"
        raise UserError(f"{path} holds none of the wanted tensors; it names {names}, ...")
    return state


def _load(path: Path, what: str) -> dict[Any, Any]:
    """The top-level dict of a zip-format torch file, loaded by the weights-only unpickler.

    Raises:
        UserError: as the public functions say.
    """
    path = existing_file(path, what)
    _check_archive(path)
    # The unpickler can meet any opcode in any order in a forged file and then fails in many ways (KeyError,
    # IndexError, TypeError, ...). Each of them means the same: this file cannot be read as data.
    try:
        with torch.serialization.safe_globals([DOTMAP_AS_DICT]):
            foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            if not foreign:
                loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: its pickle is not plain data and tensors; the file may have been tampered with; "
            f"nothing was executed ({first_line(error)})"
        ) from error
    except Exception as error:
        raise UserError(f"{path} cannot be read as a torch file: {first_line(error)}") from error
    if foreign:
        raise UserError(
            f"{path} asks for {', '.join(sorted(foreign))}, which is not data; the file may have been "
            "tampered with; nothing was executed"
        )
    if not isinstance(loaded, dict):
        raise UserError(f"{path} holds a {type(loaded).__name__}, a dict is needed")
    return loaded


def _check_archive(path: Path) -> None:
    """Refuse a file that is no whole zip archive: torch.load does not compare the zip's checksums itself.

    Raises:
        UserError: not a zip, cut short, or an entry whose CRC-32 differs.
    """
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{path} is not a whole zip-format torch file: it is cut short, or was saved in the format from "
            "before PyTorch 1.6"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path} is damaged: {first_line(error)}") from error
    if damaged is not None:
        raise UserError(f"{path} is damaged: the checksum of '{damaged}' in it does not match")


def _plain(value: Any, path: Path) -> Any:
    """`value` with every mapping as a dict and every sequence as a list.

    Raises:
        UserError: a value that no configuration holds, such as a tensor.
    """
    if isinstance(value, dict):
        # dict.items, as a forged pickle may set an instance attribute called `items`
        return {key: _plain(item, path) for key, item in dict.items(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(item, path) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise UserError(f"{path}: the config holds a {type(value).__name__}, which is not a setting")
