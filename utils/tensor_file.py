"""Tensors in one safetensors file: written one after another, read one at a time, so that memory holds one of them."""

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from utils.errors import UserError, first_line, shown
from utils.untrusted import check_header

_NAMES = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64", torch.uint8: "U8"}


class Shape(NamedTuple):
    """What a tensor's place in the file is made of before its values are there."""

    dtype: torch.dtype
    size: tuple[int, ...]


def write_tensors(
    path: Path, shapes: Mapping[str, Shape], tensors: Iterable[Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file; see https://huggingface.co/docs/safetensors for the format.

    Args:
        path: the file; what is there is written over.
        shapes: by name, in the order of the file.
        tensors: as many, in that order, asked for one at a time; on any device.
        metadata: texts by key.

    Raises:
        OSError: it cannot be written.
        ValueError: a tensor has another shape or type than was said.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, size) in shapes.items():
        start, end = end, end + int(np.prod(size, dtype=np.int64)) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(size), "data_offsets": [start, end]}
    text = json.dumps(header).encode("utf-8")
    text += b" " * (-len(text) % 8)  # values begin at a multiple of 8
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for (name, (dtype, size)), tensor in zip(shapes.items(), tensors, strict=True):
            if (tensor.dtype, tuple(tensor.shape)) != (dtype, size):
                raise ValueError(f"{name}: {tensor.dtype} {list(tensor.shape)}, not {dtype} {list(size)}")
            file.write(tensor.detach().cpu().contiguous().numpy().data)


class TensorFile(Mapping[str, Tensor]):
    """A safetensors file; each tensor is read when it is asked for.

    Raises:
        UserError: it is no safetensors file; or, later, a tensor is not there or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            check_header(path)
            self._file = safe_open(path, framework="pt")
            self.metadata: dict[str, str] = self._file.metadata() or {}
            self._names = list(self._file.keys())
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: not a readable safetensors file: {first_line(error)}") from None

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def needed(self, name: str, shape: Shape) -> Tensor:
        """A tensor that must be there in this shape, with finite values.

        Raises:
            UserError: it is not.
        """
        if name not in self._names:
            raise UserError(f"{self.path}: {shown(name)} is missing")
        tensor = self[name]
        if (tensor.dtype, tuple(tensor.shape)) != shape:
            raise UserError(
                f"{self.path}: {shown(name)} is {tensor.dtype} {list(tensor.shape)}, not {shape.dtype} "
                f"{list(shape.size)}"
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(f"{self.path}: {shown(name)} holds values that are no finite numbers")
        return tensor
