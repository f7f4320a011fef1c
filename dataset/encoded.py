"""Encoded examples in a memory-mapped Arrow file: many examples, of which memory holds those that are read.

A row is an `EncodedExample`; its targets are flat, start and end of each range in turn.
"""

import mmap
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
from torch.utils.data import Dataset

from dataset.dialogue import Example
from dataset.encoding import EncodedExample
from utils.errors import first_line

IDS = pa.list_(pa.field("item", pa.int32()))
SCHEMA = pa.schema(
    {
        "ids": IDS,
        "query_end": pa.int32(),
        "targets": IDS,
        "persona": pa.string(),
        "dialogue": pa.int64(),
        "index": pa.int64(),
        "turn": pa.int32(),
        "last_turn": pa.int32(),
    }
)


class DamagedError(Exception):
    """A file that is not what the project wrote; the message says how."""


def record_batch(examples: Sequence[EncodedExample], first: int = 0) -> pa.RecordBatch:
    """Examples as rows; `first` is the place of examples[0] in the file, where their index counts from 0."""
    columns = [
        _lists([example.ids for example in examples]),
        pa.array([example.query_end for example in examples], pa.int32()),
        _lists([np.array(example.targets, dtype=np.int32).ravel() for example in examples]),
        pa.array([example.persona for example in examples], pa.string()),
        pa.array([example.dialogue for example in examples], pa.int64()),
        pa.array([first + example.index for example in examples], pa.int64()),
        pa.array([example.turn for example in examples], pa.int32()),
        pa.array([example.last_turn for example in examples], pa.int32()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _lists(rows: Sequence[np.ndarray]) -> pa.ListArray:
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, np.concatenate(rows).astype(np.int32, copy=False), type=IDS)


def _is_compressed(message: pa.Message) -> bool:
    """Whether a record batch is, as its flatbuffer says (Arrow's Message.fbs); the library does not tell."""
    data = memoryview(message.metadata)

    def field(table: int, number: int) -> int:
        """Where a field of a table lies; 0 where it is absent."""
        (back,) = struct.unpack_from("<i", data, table)
        size, _ = struct.unpack_from("<HH", data, table - back)
        place = 4 + 2 * number
        (offset,) = struct.unpack_from("<H", data, table - back + place) if place < size else (0,)
        return table + offset if offset else 0

    (root,) = struct.unpack_from("<I", data, 0)
    header = field(root, 2)
    if message.type != "record batch" or not header:
        return message.type != "schema"
    return field(header + struct.unpack_from("<I", data, header)[0], 3) != 0


class EncodedTable(Sequence[EncodedExample]):
    """The examples of a file that dataset/encoded_cache.py wrote; each is made when it is asked for.

    Args:
        path: the file.
        num_ids: ids of the tokenizer; each id in the file is smaller.

    Raises:
        DamagedError: the file is not such a file, or holds a value that cannot be. All values are looked at: what
            somebody else has written there must not end in a place of memory that is not the file's.
    """

    def __init__(self, path: Path, num_ids: int) -> None:
        self.path, self.num_ids = path, num_ids
        try:
            with path.open("rb") as stream:
                mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            content = pa.py_buffer(mapped)
            if not pa.ipc.open_stream(content).schema.equals(SCHEMA):
                raise DamagedError("it has other columns")
            if any(_is_compressed(message) for message in pa.ipc.MessageReader.open_stream(content)):
                raise DamagedError(
                    "it is compressed, which no such file is"
                )  # a few bytes stand for gigabytes
            table = pa.ipc.open_stream(content).read_all()
            table.validate(full=True)
        except (OSError, ValueError, struct.error, pa.ArrowException) as error:
            raise DamagedError(f"it cannot be read: {first_line(error)}") from None
        self.batches = [_Batch(rows) for rows in table.to_batches() if rows.num_rows]
        self.starts = np.cumsum([0, *(len(batch.index) for batch in self.batches)])
        for first, batch in zip(self.starts, self.batches, strict=False):
            batch.check(num_ids, int(first))
        mapped.madvise(
            mmap.MADV_DONTNEED
        )  # all of it was looked at; what is used comes back from the disk's cache

    def __len__(self) -> int:
        return int(self.starts[-1])

    @overload
    def __getitem__(self, number: int) -> EncodedExample: ...

    @overload
    def __getitem__(self, number: slice) -> list[EncodedExample]: ...

    def __getitem__(self, number: int | slice) -> EncodedExample | list[EncodedExample]:
        if isinstance(number, slice):
            return [self[place] for place in range(*number.indices(len(self)))]
        place = range(len(self))[number]
        batch = int(np.searchsorted(self.starts, place, side="right")) - 1
        return self.batches[batch].example(place - int(self.starts[batch]))

    def __reduce__(self) -> tuple[Any, ...]:
        return EncodedTable, (self.path, self.num_ids)  # a worker of the loader maps the same file

    def lengths(self) -> np.ndarray:
        """Tokens of each example, int32 [n]."""
        return np.concatenate([np.diff(batch.starts) for batch in self.batches])

    def dialogues(self) -> np.ndarray:
        """Dialogue of each example, int64 [n]."""
        return np.concatenate([batch.dialogue for batch in self.batches])

    def personas(self) -> list[str]:
        """Persona of each example [n]; examples with equal ones share the text."""
        known: dict[str, str] = {}
        texts = (text for batch in self.batches for text in batch.personas.to_pylist())
        return [known.setdefault(text, text) for text in texts]


class _Batch:
    """One record batch of the file; its arrays are views of the mapped file."""

    def __init__(self, rows: pa.RecordBatch) -> None:
        if any(column.null_count for column in (*rows.columns, rows["ids"].values, rows["targets"].values)):
            raise DamagedError("values are missing")
        self.personas = rows["persona"]
        self.ids, self.starts = (_numbers(part) for part in (rows["ids"].values, rows["ids"].offsets))
        self.targets = _numbers(rows["targets"].values)
        self.target_starts = _numbers(rows["targets"].offsets)
        self.query_end, self.dialogue, self.index, self.turn, self.last_turn = (
            _numbers(rows[name]) for name in ("query_end", "dialogue", "index", "turn", "last_turn")
        )

    def check(self, num_ids: int, first: int) -> None:
        """Compare every number with what it may be; `first` is the place of this batch's first row."""
        ids = self.ids[self.starts[0] : self.starts[-1]]
        if len(ids) and not 0 <= ids.min() <= ids.max() < num_ids:
            raise DamagedError(f"it has a token id that the tokenizer, with {num_ids} ids, has not")
        lengths, flat = np.diff(self.starts), np.diff(self.target_starts)
        spans = self.targets[self.target_starts[0] : self.target_starts[-1]]
        right = (
            (lengths > 0).all()
            and ((self.query_end >= 0) & (self.query_end <= lengths)).all()
            and (flat % 2 == 0).all()
            and (self.turn >= 0).all()
            and ((self.last_turn >= 0) & (self.last_turn <= self.query_end)).all()
            # position 0 has nothing before it that could predict it
            and ((spans[::2] > 0) & (spans[::2] <= spans[1::2])).all()
            and (spans[1::2] <= np.repeat(lengths, flat // 2)).all()
            and (self.index == np.arange(first, first + len(self.index))).all()
        )
        if not right:
            raise DamagedError("a border or a place lies where none can")

    def example(self, row: int) -> EncodedExample:
        """One row as it was before it was written."""
        targets = self.targets[self.target_starts[row] : self.target_starts[row + 1]].tolist()
        return EncodedExample(
            ids=self.ids[self.starts[row] : self.starts[row + 1]],
            query_end=int(self.query_end[row]),
            targets=tuple(zip(targets[::2], targets[1::2], strict=True)),
            persona=self.personas[row].as_py(),
            dialogue=int(self.dialogue[row]),
            index=int(self.index[row]),
            turn=int(self.turn[row]),
            last_turn=int(self.last_turn[row]),
        )


def _numbers(array: pa.Array) -> np.ndarray:
    return array.to_numpy(zero_copy_only=True)


class EncodedDataset(Dataset[EncodedExample]):
    """Encoded examples by number.

    Args:
        examples: the examples of a file, in its order.
        read: gives them as they were before they were encoded; None: nobody can say where one stands.
    """

    def __init__(
        self, examples: Sequence[EncodedExample], read: Callable[[], Sequence[Example]] | None = None
    ) -> None:
        self.examples, self.read = examples, read

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, number: int) -> EncodedExample:
        return self.examples[number]

    def locate(self, numbers: Sequence[int]) -> list[str]:
        """FILE:LINE of some examples, for a message: the file is read again; [] where that is not known."""
        found = [] if self.read is None else self.read()
        return [found[number].where for number in numbers] if found else []


def lengths_of(examples: Sequence[EncodedExample]) -> np.ndarray:
    """Tokens of each example [n]."""
    if isinstance(examples, EncodedTable):
        return examples.lengths()
    return np.array([len(example.ids) for example in examples])


def ids_of(examples: Sequence[EncodedExample]) -> Iterator[np.ndarray]:
    """Token ids of each example [n], read without the rest of it where that is possible."""
    if isinstance(examples, EncodedTable):
        for batch in examples.batches:
            yield from (batch.ids[first:stop] for first, stop in pairwise(batch.starts.tolist()))
    else:
        yield from (example.ids for example in examples)


def dialogues_of(examples: Sequence[EncodedExample]) -> np.ndarray:
    """Dialogue of each example [n]."""
    if isinstance(examples, EncodedTable):
        return examples.dialogues()
    return np.array([example.dialogue for example in examples])


def personas_of(examples: Sequence[EncodedExample] | EncodedDataset) -> list[str]:
    """Persona of each example [n], read without the rest of it where that is possible."""
    if isinstance(examples, EncodedDataset):
        return personas_of(examples.examples)
    if isinstance(examples, EncodedTable):
        return examples.personas()
    return [example.persona for example in examples]
