"""Encoded examples in a mapped file: the same ones as in memory, and nothing of what somebody else wrote there."""

import dataclasses
import pickle

import numpy as np
import pyarrow as pa
import pytest

from dataset.encoded import (
    SCHEMA,
    DamagedError,
    EncodedDataset,
    EncodedTable,
    dialogues_of,
    lengths_of,
    personas_of,
    record_batch,
)
from dataset.encoding import EncodedExample

NUM_IDS = 100


def _example(number, length=4, **changes):
    ids = np.arange(number, number + length, dtype=np.int32)
    whole = EncodedExample(
        ids, 2, ((1, 2), (3, length)), f"persona {number // 2}", number // 2, number, 3 + number, 1
    )
    return dataclasses.replace(whole, **changes)


EXAMPLES = [_example(number, 4 + number % 3) for number in range(10)]


def _write(path, *parts):
    """The parts as record batches of one file, each beginning where the last one ended."""
    with pa.OSFile(str(path), "wb") as stream, pa.ipc.new_stream(stream, SCHEMA) as writer:
        first = 0
        for part in parts:
            renumbered = [dataclasses.replace(example, index=place) for place, example in enumerate(part)]
            writer.write_batch(record_batch(renumbered, first))
            first += len(part)
    return path


def _same(one, other):
    values = [dataclasses.asdict(example) for example in (one, other)]
    return np.array_equal(values[0].pop("ids"), values[1].pop("ids")) and values[0] == values[1]


@pytest.fixture
def table(tmp_path):
    """EXAMPLES in batches of unequal size."""
    return EncodedTable(_write(tmp_path / "rows", EXAMPLES[:3], EXAMPLES[3:4], EXAMPLES[4:]), NUM_IDS)


def test_rows_are_the_examples(table):
    """A border that moves by one batch would train each example on its neighbour's text."""
    assert len(table) == 10
    assert all(map(_same, table, EXAMPLES))
    assert _same(table[-1], EXAMPLES[-1])
    assert all(map(_same, table[2:5], EXAMPLES[2:5]))
    with pytest.raises(IndexError):
        table[10]


def test_an_inference_text_has_no_targets(tmp_path):
    """An empty list of ranges must not take those of the next row."""
    examples = [_example(0, targets=()), _example(1), _example(2, targets=())]
    table = EncodedTable(_write(tmp_path / "rows", examples), NUM_IDS)
    assert [example.targets for example in table] == [(), ((1, 2), (3, 4)), ()]


@pytest.mark.parametrize("wrap", [lambda table: table, pickle.dumps, EncodedDataset])
def test_columns_are_those_of_the_rows(table, wrap):
    """The sampler reads columns: with another order of lengths, runs would not repeat those from memory."""
    read = wrap(table)
    if isinstance(read, bytes):  # a worker of the loader is given the place of the file, not a copy of it
        assert len(read) < 1000
        read = pickle.loads(read)
    if not isinstance(read, EncodedDataset):
        assert lengths_of(read).tolist() == lengths_of(EXAMPLES).tolist()
        assert dialogues_of(read).tolist() == dialogues_of(EXAMPLES).tolist()
    assert personas_of(read) == personas_of(EXAMPLES)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ids": np.array([1, 2, NUM_IDS, 3], np.int32)}, "token id"),
        ({"ids": np.array([1, 2, -1, 3], np.int32)}, "token id"),
        ({"query_end": 5}, "border"),
        ({"query_end": -1}, "border"),
        ({"turn": -1}, "border"),
        ({"last_turn": -1}, "border"),
        ({"last_turn": 3}, "border"),  # after the end of the query
        ({"targets": ((3, 5),)}, "border"),
        ({"targets": ((0, 2),)}, "border"),
        ({"targets": ((3, 2),)}, "border"),
        ({"targets": ((1,),)}, "border"),
        ({"index": 7}, "border"),
    ],
)
def test_impossible_values_are_refused(tmp_path, changes, words):
    """An id beyond the LM's table ends the process inside a kernel, or reads memory that is not the table's."""
    path = tmp_path / "rows"
    with pa.OSFile(str(path), "wb") as stream, pa.ipc.new_stream(stream, SCHEMA) as writer:
        writer.write_batch(record_batch([_example(0), _example(1, **changes), _example(2)]))
    with pytest.raises(DamagedError, match=words):
        EncodedTable(path, NUM_IDS)


def test_borders_beyond_the_file_are_refused(tmp_path):
    """Offsets of a list that point behind its values would be read as whatever lies there in memory."""
    good = record_batch(EXAMPLES)
    ends = good["ids"].offsets.to_pylist()
    offsets = pa.array([0, 10**6, *ends[2:]], pa.int32())
    buffers = [None, offsets.buffers()[1]]
    values = good["ids"].values
    ids = pa.Array.from_buffers(good.schema.field("ids").type, len(EXAMPLES), buffers, children=[values])
    batch = pa.RecordBatch.from_arrays([ids, *good.columns[1:]], schema=SCHEMA)
    path = tmp_path / "rows"
    with pa.OSFile(str(path), "wb") as stream, pa.ipc.new_stream(stream, SCHEMA) as writer:
        writer.write_batch(batch)
    with pytest.raises(DamagedError):
        EncodedTable(path, NUM_IDS)


def test_missing_values_and_other_columns_are_refused(tmp_path):
    """A missing number would be read as whatever lies in its place."""
    good = record_batch(EXAMPLES)
    holes = pa.array([None, *[1] * 9], pa.int32())
    batches = [
        pa.RecordBatch.from_arrays([good["ids"], holes, *good.columns[2:]], schema=SCHEMA),
        good.drop_columns(["persona"]),
        good.set_column(1, pa.field("query_end", pa.int64()), good["query_end"].cast("int64")),
    ]
    for batch in batches:
        path = tmp_path / "rows"
        with pa.OSFile(str(path), "wb") as stream, pa.ipc.new_stream(stream, batch.schema) as writer:
            writer.write_batch(batch)
        with pytest.raises(DamagedError):
            EncodedTable(path, NUM_IDS)


def test_damaged_bytes_are_an_error_or_change_a_value_within_its_range(tmp_path):
    """A file that a disk has damaged must not end the process without a word."""
    path = _write(tmp_path / "rows", EXAMPLES[:5], EXAMPLES[5:])
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read = list(EncodedTable(path, NUM_IDS))
        except DamagedError:
            continue
        assert all(0 <= example.ids.min() <= example.ids.max() < NUM_IDS for example in read)
    for length in (0, 1, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedError):
            EncodedTable(path, NUM_IDS)
