"""Reads the files of the authors' runs as data: a pickle in them can name code, none of it is run.

`checkpoint_best.pth` is `torch.save({"config": DotMap})`, `mp_rank_00_model_states.pt` is DeepSpeed's dict
whose `module` holds the tensors. models/release/stored_data.py reads their pickles. Everything that is made here is at
most as large as the file, whatever the file says of itself.
"""

import math
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from models.release.stored_data import ForeignName, NotData, StoredTensor, read_stored_data
from utils.errors import UserError, existing_file, first_line
from utils.untrusted import is_zip

AUTHORS_CONFIG = "checkpoint_best.pth"
_LARGEST_PICKLE = 4 << 20  # bytes; a model of 13 billion parameters has less than a tenth of that
_MOST_SETTINGS = 10_000  # the authors' files have a hundred
_DEEPEST = 50
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def read_config(path: Path) -> dict[str, Any]:
    """The nested `config` of a `checkpoint_best.pth`, as plain dicts, lists and scalars.

    An empty dict stands for a setting that was read but never set: a DotMap creates what is asked of it.

    Raises:
        UserError: missing, damaged or tampered file, or a file without a `config` mapping.
    """
    with _opened(path, "the authors' checkpoint") as (content, _):
        config = content.get("config")
    if not isinstance(config, dict):
        raise UserError(f"{path} holds no 'config' mapping; a checkpoint_best.pth of the authors is needed")
    return _Plain(path).copy(config, 0)


def read_module_state(path: Path, wanted: Callable[[str], bool]) -> dict[str, torch.Tensor]:
    """The tensors of a `mp_rank_00_model_states.pt` whose name passes `wanted`, on the CPU, shapes as saved.

    Only these are read, so the frozen language model beside them costs no memory.

    Raises:
        UserError: missing, damaged or tampered file, no `module`, a wanted entry that is not a tensor of
            floating-point numbers, or no wanted entry at all.
    """
    with _opened(path, "DeepSpeed model states") as (content, archive):
        module = content.get("module")
        if not isinstance(module, dict):
            raise UserError(f"{path} holds no 'module'; a DeepSpeed mp_rank_00_model_states.pt is needed")
        chosen = {name: value for name, value in module.items() if isinstance(name, str) and wanted(name)}
        if not chosen:
            names = ", ".join(str(name)[:80] for name in list(module)[:3]) or "nothing"
            raise UserError(f"{path} holds none of the wanted tensors; it names {names}, ...")
        left = path.stat().st_size
        state = {}
        for name, value in chosen.items():
            if not isinstance(value, StoredTensor):
                raise UserError(f"{path}: '{name[:80]}' is a {type(value).__name__}, a tensor is needed")
            left -= _extent(value) * value.storage.dtype.itemsize
            if left < 0 or math.prod(value.size) > _extent(value):
                raise UserError(f"{path}: '{name[:80]}' claims more numbers than the file holds")
            if value.storage.dtype not in FLOATS:
                raise UserError(
                    f"{path}: '{name[:80]}' holds {value.storage.dtype}, not floating-point numbers"
                )
            state[name] = _tensor(value, archive, f"{path}: '{name[:80]}'")
    return state


def _extent(tensor: StoredTensor) -> int:
    """How many numbers of its storage a tensor spans."""
    if 0 in tensor.size:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(tensor.size, tensor.stride, strict=True))


def _tensor(tensor: StoredTensor, archive: zipfile.ZipFile, what: str) -> torch.Tensor:
    """The tensor itself, in memory of its own."""
    dtype, extent = tensor.storage.dtype, _extent(tensor)
    if extent == 0:
        return torch.empty(tensor.size, dtype=dtype)
    try:
        with archive.open(f"{_prefix(archive)}/data/{tensor.storage.key}") as entry:
            entry.seek(tensor.offset * dtype.itemsize)
            raw = bytearray(entry.read(extent * dtype.itemsize))
    except (KeyError, OSError, OverflowError, zipfile.BadZipFile) as error:
        raise UserError(f"{what} cannot be read: {first_line(error)}") from error
    if len(raw) < extent * dtype.itemsize:
        raise UserError(f"{what} lies outside of its storage; the file may have been tampered with")
    numbers = torch.frombuffer(raw, dtype=dtype)
    return numbers.as_strided(tensor.size, tensor.stride).clone(memory_format=torch.contiguous_format)


@contextmanager
def _opened(path: Path, what: str) -> Iterator[tuple[dict[Any, Any], zipfile.ZipFile]]:
    """The top-level dict of a zip-format torch file, and the open archive that its tensors lie in.

    Raises:
        UserError: as the public functions say.
    """
    path = existing_file(path, what)
    if not is_zip(path):
        raise UserError(
            f"{path} is not a whole zip-format torch file: it is cut short, or was saved in the format from "
            "before PyTorch 1.6"
        )
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"{path} is damaged: {first_line(error)}") from error
    with archive:
        _check_archive(path, archive)
        yield _read_content(path, archive), archive


def _check_archive(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse what torch.save does not write, and what has changed since.

    Raises:
        UserError: a compressed entry, entries that share their bytes, or one whose CRC-32 differs.
    """
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
        raise UserError(
            f"{path} is compressed or encrypted, which a torch file never is; nothing was unpacked"
        )
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise UserError(f"{path} claims more bytes than it has; the file may have been tampered with")
    try:
        damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"{path} is damaged: {first_line(error)}") from error
    if damaged is not None:
        raise UserError(f"{path} is damaged: the checksum of '{damaged}' in it does not match")


def _prefix(archive: zipfile.ZipFile) -> str:
    """The folder that everything in a torch file lies in; empty when there is none."""
    return archive.namelist()[0].partition("/")[0] if archive.namelist() else ""


def _read_content(path: Path, archive: zipfile.ZipFile) -> dict[Any, Any]:
    prefix = _prefix(archive)
    names = set(archive.namelist())
    if f"{prefix}/data.pkl" not in names:
        raise UserError(f"{path} cannot be read as a torch file: it holds no data.pkl")
    if f"{prefix}/byteorder" in names and archive.read(f"{prefix}/byteorder") != b"little":
        raise UserError(f"{path} was written by a big-endian computer, which is not supported")
    if archive.getinfo(f"{prefix}/data.pkl").file_size > _LARGEST_PICKLE:
        raise UserError(
            f"{path}: its pickle has more than {_LARGEST_PICKLE >> 20} MiB; it is no run of the authors"
        )
    try:
        content = read_stored_data(archive.read(f"{prefix}/data.pkl"))
    except ForeignName as error:
        raise UserError(
            f"{path} asks for {error}, which is not data; the file may have been tampered with; nothing was executed"
        ) from error
    except NotData as error:
        raise UserError(
            f"{path}: its pickle is not plain data and tensors; the file may have been tampered with; "
            f"nothing was executed ({first_line(error)})"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, a dict is needed")
    return content


class _Plain:
    """Copies settings as plain dicts and lists; what the file mentions many times counts each time."""

    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0

    def copy(self, value: Any, depth: int) -> Any:
        """`value` with every mapping as a dict and every sequence as a list.

        Raises:
            UserError: a value that no configuration holds, such as a tensor; too many; too deep.
        """
        self.count += 1
        if depth > _DEEPEST:
            raise UserError(f"{self.path}: the config is nested without end; the file may be tampered with")
        if self.count > _MOST_SETTINGS:
            raise UserError(f"{self.path}: the config holds more than {_MOST_SETTINGS} settings")
        if isinstance(value, dict):
            return {key: self.copy(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.copy(item, depth + 1) for item in value]
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        kind = "tensor" if isinstance(value, StoredTensor) else type(value).__name__
        raise UserError(f"{self.path}: the config holds a {kind}, which is not a setting")
