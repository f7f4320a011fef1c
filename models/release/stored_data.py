"""Reads the pickle of a torch file as what it describes: dicts, lists, scalars, and where tensors lie.

A pickle is a program for a machine that can call whatever it names. This is a machine that knows the
instructions which torch and DeepSpeed write for data, and calls nothing: it never looks a name up, makes no copy
that the file does not spell out (so that its memory stays in proportion to the file), and builds no tensor.
"""

import math
import pickletools
from dataclasses import dataclass
from typing import Any

import torch

_MAPPINGS = {"collections.OrderedDict", "dotmap.DotMap"}
# read as their first argument: a set is its list, bytes of protocol 2 are their text, a parameter is its tensor
_FIRST_ARGUMENT = {
    "_codecs.encode",
    "builtins.set",
    "__builtin__.set",
    "torch.Size",
    "torch.device",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
}
_TENSOR = "torch._utils._rebuild_tensor_v2"
_STORAGES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
_DTYPES = {str(dtype) for dtype in _STORAGES.values()}
_NAMES = _MAPPINGS | _FIRST_ARGUMENT | {_TENSOR} | _STORAGES.keys() | _DTYPES

_TOO_LARGE = 1 << 62  # for torch: a size, a stride, an offset, or a number of elements

_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": (), "MARK": _MARK}
_LITERALS = frozenset(
    """BININT BININT1 BININT2 LONG1 BINFLOAT SHORT_BINUNICODE BINUNICODE BINUNICODE8
    SHORT_BINBYTES BINBYTES BINBYTES8""".split()
)
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class NotData(Exception):
    """The pickle holds something else than data; the message says what."""


class ForeignName(NotData):
    """The pickle names something that is no part of data; the message is that name."""


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that the pickle names; only its name is known here."""

    name: str


@dataclass(frozen=True, slots=True)
class Storage:
    """Numbers of one kind in an entry of the torch file."""

    dtype: torch.dtype
    key: str


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Which numbers of a storage a tensor is made of; offset and strides count numbers, not bytes."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_stored_data(pickled: bytes) -> Any:
    """What a pickle describes: dict, list, tuple, str, bytes, int, float, bool, None and `StoredTensor`.

    Raises:
        ForeignName: it names anything else.
        NotData: an instruction that data does not need, or that finds something else than it needs.
    """
    try:
        return _Machine().run(pickled)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, MemoryError) as error:
        raise NotData(f"{type(error).__name__}: {error}") from error


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, pickled: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(pickled):
            if opcode.name == "STOP":
                return self.stack.pop()
            self.step(opcode.name, argument)
        raise NotData("it has no end")

    def step(self, opcode: str, argument: Any) -> None:
        stack = self.stack
        if opcode in _CONSTANTS:
            stack.append(_CONSTANTS[opcode])
        elif opcode in _LITERALS:
            stack.append(argument)
        elif opcode in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif opcode == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif opcode in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif opcode in ("EMPTY_LIST", "EMPTY_SET"):
            stack.append([])
        elif opcode == "EMPTY_DICT":
            stack.append({})
        elif opcode in _TUPLES:
            stack.append(tuple(self.pop(_TUPLES[opcode])))
        elif opcode == "TUPLE":
            stack.append(tuple(self.pop_to_mark()))
        elif opcode in ("APPEND", "APPENDS", "ADDITEMS"):
            items = self.pop(1) if opcode == "APPEND" else self.pop_to_mark()
            _expect(stack[-1], list).extend(items)
        elif opcode in ("SETITEM", "SETITEMS"):
            items = self.pop(2) if opcode == "SETITEM" else self.pop_to_mark()
            _set_items(_expect(stack[-1], dict), items)
        elif opcode == "GLOBAL":
            stack.append(_name(argument.replace(" ", ".")))
        elif opcode == "STACK_GLOBAL":
            stack.append(_name(".".join(_expect(part, str) for part in self.pop(2))))
        elif opcode == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif opcode == "REDUCE":
            called, arguments = self.pop(2)
            stack.append(_stands_for(_expect(called, Name).name, _expect(arguments, tuple)))
        elif opcode == "BUILD":  # attributes of a mapping, which nobody reads
            stack.pop()
            _expect(stack[-1], dict)
        elif opcode not in ("PROTO", "FRAME"):
            raise NotData(f"the instruction {opcode}")

    def pop(self, count: int) -> list[Any]:
        items = self.stack[len(self.stack) - count :]
        if len(items) < count or _MARK in items:
            raise NotData("an instruction without its operands")
        del self.stack[len(self.stack) - count :]
        return items

    def pop_to_mark(self) -> list[Any]:
        items: list[Any] = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        items.reverse()
        return items


def _expect(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise NotData(f"a {type(value).__name__} in the place of a {kind.__name__}")
    return value


def _set_items(mapping: dict[Any, Any], items: list[Any]) -> None:
    for key, value in zip(items[::2], items[1::2], strict=True):
        # a tuple of tuples of one tuple, and large numbers chosen to collide, would take for ever to hash
        if not (key is None or isinstance(key, str) or (isinstance(key, int) and abs(key) < 2**32)):
            raise NotData(f"a {type(key).__name__} as a key")
        mapping[key] = value


def _name(name: str) -> Name:
    if name not in _NAMES:
        raise ForeignName(name[:100])
    return Name(name)


def _storage(description: Any) -> Storage:
    kind, storage, key, _, _ = _expect(description, tuple)
    name = _expect(storage, Name).name
    if kind != "storage" or name not in _STORAGES:
        raise NotData("a reference to something else than numbers")
    return Storage(_STORAGES[name], _expect(key, str))


def _stands_for(name: str, arguments: tuple[Any, ...]) -> Any:
    if name in _MAPPINGS and not arguments:
        return {}
    if name in _FIRST_ARGUMENT and arguments:
        return arguments[0]
    if name == _TENSOR:
        storage, offset, size, stride, *_ = arguments
        numbers = [offset, *_expect(size, tuple), *_expect(stride, tuple)]
        proper = all(type(number) is int and 0 <= number < _TOO_LARGE for number in numbers)
        if len(size) != len(stride) or not proper or math.prod(filter(None, size)) >= _TOO_LARGE:
            raise NotData("a tensor without a proper size")
        return StoredTensor(_expect(storage, Storage), offset, size, stride)
    raise NotData(f"{name} with {len(arguments)} arguments")
