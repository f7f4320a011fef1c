"""Kept encodings that somebody planted, and what is fetched or unpacked."""

import json
import os

import numpy as np
import pyarrow as pa
import pytest

from dataset.encoded import SCHEMA, DamagedError, EncodedTable
from dataset.encoded_cache import _opened
from utils.files import file_sha256


def _plant(path, options=None, schema=SCHEMA):
    """A file of one example with a million ids, all 0."""
    numbers = pa.ListArray.from_arrays(
        pa.array([0, 1_000_000], pa.int32()), np.zeros(1_000_000, np.int32), type=SCHEMA.field("ids").type
    )
    none = pa.array([[]], SCHEMA.field("targets").type)
    columns = [
        numbers,
        pa.array([1], pa.int32()),
        none,
        pa.array([""]),
        pa.array([0], pa.int64()),
        pa.array([0], pa.int64()),
        pa.array([0], pa.int32()),
        pa.array([0], pa.int32()),
    ]
    rows = pa.RecordBatch.from_arrays(columns, schema=schema)
    with path.open("wb") as file, pa.ipc.new_stream(file, schema, options=options) as writer:
        writer.write_batch(rows)


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_compressed_encodings_are_made_again(tmp_path, compression):
    """25 kB of compressed zeros become a gigabyte when the library opens them."""
    path = tmp_path / "examples.arrow"
    _plant(path)
    assert len(EncodedTable(path, 10)) == 1
    _plant(path, pa.ipc.IpcWriteOptions(compression=compression))
    with pytest.raises(DamagedError, match="compressed"):
        EncodedTable(path, 10)


def test_any_change_of_kept_encodings_is_found(tmp_path, survived):
    """Bytes that somebody else has put there end in a place of memory that is not the file's."""
    path = tmp_path / "examples.arrow"
    _plant(path)
    whole = path.read_bytes()
    drawn = np.random.default_rng(0)
    for place in [*range(0, 1200, 7), *drawn.integers(0, 1200, 100)]:
        forged = bytearray(whole)
        forged[place] ^= int(drawn.integers(1, 256))
        path.write_bytes(forged)
        try:
            table = EncodedTable(path, 10)
            assert len(table[0].ids) <= len(whole)
        except DamagedError:
            survived("bad inputs")


def test_a_pipe_among_kept_encodings_is_not_waited_for(tmp_path):
    """In a folder that several people use, anybody can put a pipe where the file is looked for."""
    os.mkfifo(tmp_path / "key.json")
    with pytest.raises(DamagedError):
        _opened(tmp_path, {}, 10)
    (tmp_path / "key.json").unlink()
    os.mkfifo(tmp_path / "examples.arrow")
    (tmp_path / "key.json").write_text(json.dumps({"key": {}, "num_examples": 1, "sha256": "0"}))
    with pytest.raises(DamagedError):
        _opened(tmp_path, {}, 10)


def test_encodings_of_other_texts_are_not_taken(tmp_path):
    """A planted folder says of itself what it holds: its key and hash are compared with what is asked for."""
    _plant(tmp_path / "examples.arrow")
    kept = {"key": {"a": 1}, "num_examples": 1, "sha256": file_sha256(tmp_path / "examples.arrow")}
    (tmp_path / "key.json").write_text(json.dumps(kept))
    assert len(_opened(tmp_path, {"a": 1}, 10)) == 1
    for key, num_ids in (({"a": 2}, 10), ({"a": 1}, 0)):
        with pytest.raises(DamagedError):
            _opened(tmp_path, key, num_ids)
