"""Checkpoints that nobody saved: damaged torch files and pickles are data, or refused in a line, and never run."""

import collections
import contextlib
import io
import json
import pickle
import pickletools
import struct
import sys
import zipfile

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import save

from models.release.checkpoint import read_config, read_module_state
from models.release.settings import config_from_authors
from models.release.stored_data import NotData, read_stored_data
from models.trained_part import read_trained
from tests.hunted import damaged, judged, judged_file, values, with_a_part_replaced
from utils.runs import TRAINED

SETTINGS = {
    "model": {"model_type": "selective_pt", "K": 4, "peft_config": {"num_virtual_tokens": 2}},
    "training": {"lr": 0.1},
}
BASE = torch.arange(24.0).view(4, 6)
STATE = {"module": {"w": BASE, "w.view": BASE[1:, ::2], "w.none": BASE[:0]}, "step": 3}


def _saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def _pickle_of(content):
    with zipfile.ZipFile(io.BytesIO(_saved(content))) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


def _torch_file(pickled, numbers=b"\0" * 96):
    """A torch file with this pickle; its checksums are right, as those of a forger are."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/byteorder", "little")
        archive.writestr("a/data/0", numbers)
    return file.getvalue()


CONFIG_PICKLE, STATE_PICKLE = _pickle_of({"config": SETTINGS}), _pickle_of(STATE)
PICKLES = [
    pickle.dumps({"config": SETTINGS, "set": {1}, "o": collections.OrderedDict(x=b"1")}, protocol=p)
    for p in (2, 4, 5)
]


def _module(path):
    return read_module_state(path, lambda name: name.startswith("w"))


@pytest.fixture(scope="module")
def watched():
    """Fails when reading a file runs anything: what an audit hook hears of names looked up, processes, connections."""
    heard, listening = [], [False]
    names = (
        "pickle.find_class",
        "os.system",
        "subprocess.Popen",
        "os.exec",
        "os.posix_spawn",
        "os.fork",
        "socket.connect",
    )

    def hook(event, _):
        if listening[0] and event in names:
            heard.append(event)

    sys.addaudithook(hook)
    listening[0] = True
    yield heard
    listening[0] = False
    assert heard == []


WHOLE = _saved({"config": SETTINGS})


@given(content=damaged(WHOLE, _saved(STATE)) | st.binary(max_size=100))
# of many disks, which zipfile does not say but raises
@example(content=WHOLE.replace(b"PK\x06\x07\0", b"PK\x06\x07\xff"))
def test_damaged_files(tmp_path, survived, watched, content):
    """A checkpoint that was cut on the way, or has a byte turned over, is told by name."""
    for read in (read_config, _module):
        judged_file(read, tmp_path / "a.pt", content, by_line=False)
    survived("bad inputs")


@given(pickled=damaged(CONFIG_PICKLE, STATE_PICKLE, *PICKLES) | st.binary(max_size=60))
def test_pickles_in_whole_files(tmp_path, survived, watched, pickled):
    """With its checksums right a pickle may hold any instructions in any order."""
    for read in (lambda path: config_from_authors(read_config(path), str(path)), _module):
        judged_file(read, tmp_path / "a.pt", _torch_file(pickled), by_line=False)
    survived("bad inputs")


_ARGUMENTS = [op for op in pickletools.opcodes if op.arg is None]


@given(
    codes=st.lists(
        st.sampled_from(
            [op.code.encode("latin-1") for op in _ARGUMENTS] + [b"K\x01", b"\x8c\x01w", b"q\0", b"h\0"]
        ),
        max_size=30,
    )
)
def test_any_instructions(survived, watched, codes):
    """Instructions without their operands made the machine end in an error of its own, or copy without end."""
    with contextlib.suppress(NotData):
        read_stored_data(b"\x80\x04" + b"".join(codes) + b".")
    survived("bad inputs")


sizes = st.lists(st.sampled_from([0, 1, 2, 3, 6, 24, 2**31, 2**62, 2**63, 2**70]), max_size=3)


@given(
    size=sizes,
    strides=sizes,
    offset=st.sampled_from([0, 1, 23, 24, 2**62, 2**63, 2**70]),
    key=st.sampled_from(["0", "1", "../0"]),
)
@example(size=[0, 2**63], strides=[1, 1], offset=0, key="0")
@example(size=[0, 2**40, 2**40], strides=[1, 1, 1], offset=0, key="0")
@example(size=[1], strides=[2**70], offset=0, key="0")
@example(size=[1, 1], strides=[2**63, 2**62], offset=1, key="0")
def test_tensors_of_any_size(tmp_path, survived, watched, size, strides, offset, key):
    """Sizes that no tensor has were an error of torch; sizes that the file does not hold would take the memory."""
    strides = (strides + [1, 1, 1])[: len(size)]
    pickled = b"".join(
        [
            b"\x80\x02}X\x06\0\0\0module}X\x01\0\0\0w",
            b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n",
            b"X" + struct.pack("<I", len(key)) + key.encode() + b"X\x03\0\0\0cpuK\x18tQ",
            _number(offset),
            b"(" + b"".join(map(_number, size)) + b"t",
            b"(" + b"".join(map(_number, strides)) + b"t",
            b"\x89}tRss.",
        ]
    )
    found = judged_file(_module, tmp_path / "a.pt", _torch_file(pickled), by_line=False)
    if found is not None:
        assert found["w"].numel() <= 24
    survived("bad inputs")


def _number(value):
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


@given(value=values, random=st.randoms())
def test_settings_of_any_value(tmp_path, survived, value, random):
    """What a DotMap held of another form went into the configuration as it was."""
    content = with_a_part_replaced({"config": SETTINGS}, value, random)
    path = tmp_path / "a.pt"
    judged_file(
        lambda path: config_from_authors(read_config(path), str(path)),
        path,
        _torch_file(pickle.dumps(content)),
        by_line=False,
    )
    survived("bad inputs")


WEIGHTS = save({"soft_prompts.weight": BASE, "retriever.linear.bias": BASE.half()}, metadata={"a": "b"})


def _with_header(header, numbers=b"\0" * 200):
    raw = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return struct.pack("<Q", len(raw)) + raw + numbers


TENSOR = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
DTYPES = [
    "F64",
    "F32",
    "F16",
    "BF16",
    "I64",
    "U64",
    "U16",
    "BOOL",
    "F8_E4M3",
    "F8_E5M2",
    "F8_E8M0",
    "F4",
    "F6_E2M3",
    "C64",
    "none",
]
content = st.one_of(
    damaged(WEIGHTS),
    st.builds(
        lambda value, random: _with_header(with_a_part_replaced({"w": TENSOR}, value, random)),
        values,
        st.randoms(),
    ),
    st.builds(
        lambda dtype, shape, end: _with_header(
            {"w": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}, b"\0" * min(end, 300)
        ),
        st.sampled_from(DTYPES),
        sizes,
        st.sampled_from([0, 1, 4, 8, 24, 48, 96]),
    ),
)


@given(content=content)
@example(content=_with_header({"w": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}, b"\0"))
@example(content=_with_header({"w": {"dtype": "F8_E8M0", "shape": [2], "data_offsets": [0, 2]}}, b"\0\0"))
@example(content=_with_header({"w": {"dtype": "U16", "shape": [2], "data_offsets": [0, 4]}}, b"\0\0\0\0"))
def test_trained_parts(tmp_path, survived, watched, content):
    """A trained part of another precision, or cut while it was copied, is told by name."""
    path = tmp_path / TRAINED
    path.write_bytes(content)
    found = judged(lambda: read_trained(tmp_path), path)
    if found is not None:
        assert all(torch.isfinite(tensor).all() for tensor in found[0].values())
    survived("bad inputs")
