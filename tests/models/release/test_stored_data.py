"""Forged torch files: kilobytes that would take gigabytes, and pickles that describe no data."""

import collections
import copy
import io
import pickle
import random
import sys
import zipfile

import pytest
import torch

from models.release.checkpoint import read_config, read_module_state
from models.release.stored_data import NotData, Storage, StoredTensor, read_stored_data
from utils.errors import UserError


@pytest.fixture
def refused(tmp_path):
    """refused(content, config=False): the one line that a torch file with this content ends in."""

    def run(content, config=False, **options):
        path = tmp_path / "forged.pt"
        if content is not None:
            torch.save(content, path, **options)
        with pytest.raises(UserError) as caught:
            read_config(path) if config else read_module_state(path, lambda name: name.startswith("w"))
        message = str(caught.value)
        assert str(path) in message
        assert "\n" not in message
        assert len(message) < 1000
        return message

    return run


class Calls:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_data_of_every_kind_is_read(protocol):
    """What torch and DeepSpeed write beside the tensors must not make a run unreadable, in any protocol."""
    content = {
        "a": [1, -1, 300, 70_000, 2**40, 2.5, True, None, "é", (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "b": b"x",
        "set": {1},
        "size": torch.Size([2, 3]),
        "ordered": collections.OrderedDict(x=1),
        3: {},
    }
    read = read_stored_data(pickle.dumps(content, protocol))
    assert read == content | {"set": [1], "size": (2, 3), "b": "x" if protocol == 2 else b"x"}
    assert type(read["ordered"]) is dict


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("protocol", [2, 4])
def test_tensors_are_described(tmp_path, protocol, dtype):
    """Offset and strides of a view, and the kind of its numbers, are what the values depend on."""
    base = torch.arange(24, dtype=dtype).view(4, 6)
    torch.save(
        {"view": base[1:, ::2], "trained": torch.nn.Parameter(base)}, tmp_path / "x", pickle_protocol=protocol
    )
    with zipfile.ZipFile(tmp_path / "x") as archive:
        read = read_stored_data(archive.read("x/data.pkl"))
    storage = Storage(dtype, "0")
    assert read["view"] == StoredTensor(storage, 6, (3, 3), (6, 2))
    assert read["trained"] == StoredTensor(storage, 0, (4, 6), (6, 1))
    state = {"module": {"w": base[1:, ::2], "w.T": base.T[2:4], "w.none": base[:0]}}
    torch.save(state, tmp_path / "y", pickle_protocol=protocol)
    for name, tensor in read_module_state(tmp_path / "y", lambda name: True).items():
        assert torch.equal(tensor, state["module"][name])
        assert tensor.dtype == dtype
        assert tensor.is_contiguous()


def test_no_tensor_shares_memory(tmp_path):
    """Tied in the file, or mapped from it: training one would move the other, or end at a file that changes."""
    shared = torch.arange(6.0)
    torch.save(
        {"module": {"w1": shared, "w2": shared, "w3": shared.view(2, 3), "w4": shared[1:]}}, tmp_path / "x"
    )
    state = read_module_state(tmp_path / "x", lambda name: True)
    (tmp_path / "x").write_bytes(b"\0" * (tmp_path / "x").stat().st_size)
    places = [tensor.untyped_storage().data_ptr() for tensor in state.values()]
    assert len(set(places)) == 4
    state["w1"].zero_()
    assert state["w2"].tolist() == [0, 1, 2, 3, 4, 5]
    assert state["w4"].untyped_storage().nbytes() == 5 * 4


def test_shared_lists_that_stand_for_millions(refused):
    """Six lists of ten times the next one: a kilobyte that was written out as a million settings."""
    bomb = "lol"
    for _ in range(6):
        bomb = [bomb] * 10
    assert "the config holds more than 10000 settings" in refused(
        {"config": {"model": {"K": bomb}}}, config=True
    )
    deep = "lol"
    for _ in range(100):
        deep = [deep]
    assert "nested without end" in refused({"config": {"x": deep}}, config=True)


def test_a_tensor_that_repeats_its_numbers(refused):
    """Stride 0: one number in the file, 16 MB in memory, or 16 TB."""
    for shape in [(2000, 2000), (10**9, 10**9)]:
        message = refused({"module": {"w": torch.zeros(1).expand(shape)}})
        assert "'w' claims more numbers than the file holds" in message


def test_many_names_for_one_storage(refused):
    """Each is a copy of its own in memory: 1,000 times the file."""
    shared = torch.zeros(10_000)
    assert "claims more numbers" in refused({"module": {f"w{number}": shared for number in range(1000)}})


def test_overlapping_windows_of_one_storage(refused):
    """Strides that are too small for the size, with no stride of 0 among them."""
    windows = torch.zeros(2000).as_strided((1000, 1000), (1, 1))
    assert "'w' claims more numbers than the file holds" in refused({"module": {"w": windows}})


def _rewritten(path, change):
    """The same zip archive with `change(name, content, info)` in the place of each entry; None leaves it out."""
    with zipfile.ZipFile(path) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries:
            change(archive, name, content)


def test_compressed_entries(refused, tmp_path):
    """50 MB of zeros are 50 kB when deflated; torch stores, it never deflates."""
    path = tmp_path / "forged.pt"
    torch.save({"module": {"w": torch.zeros(1 << 20)}}, path)
    _rewritten(path, lambda archive, *entry: archive.writestr(*entry, compress_type=zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 20_000
    assert "is compressed or encrypted, which a torch file never is" in refused(None)


def test_entries_that_share_their_bytes(refused, tmp_path):
    """A directory that lists the same megabyte a thousand times."""
    path = tmp_path / "forged.pt"
    torch.save({"module": {"w": torch.zeros(1000)}}, path)

    def list_many_times(archive, name, content):
        archive.writestr(name, content)
        if name.endswith("data/0"):
            for number in range(100):
                again = copy.copy(archive.infolist()[-1])
                again.filename = f"{name}{number}"
                archive.filelist.append(again)

    _rewritten(path, list_many_times)
    assert "claims more bytes than it has" in refused(None)


def test_a_storage_that_is_cut(refused, tmp_path):
    """The pickle promises more numbers than the entry has: what lies behind it in memory is not the model's."""
    path = tmp_path / "forged.pt"
    torch.save({"module": {"w": torch.zeros(100)}}, path)
    _rewritten(
        path,
        lambda archive, name, content: archive.writestr(name, content[:40] if name[-1] == "0" else content),
    )
    assert "'w' lies outside of its storage" in refused(None)
    _rewritten(path, lambda archive, name, content: name[-1] != "0" and archive.writestr(name, content))
    assert "'w' cannot be read" in refused(None)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(3, 3).to_sparse(), "asks for torch._utils._rebuild_sparse_tensor, which is not data"),
        (torch.zeros(3, device="meta"), "asks for torch._utils._rebuild_meta_tensor"),
        (torch.zeros(3, dtype=torch.complex64), "asks for torch.ComplexFloatStorage"),
        (torch.zeros(3, dtype=torch.int64), "'w' holds torch.int64, not floating-point numbers"),
        (torch.zeros(3, dtype=torch.bool), "'w' holds torch.bool, not floating-point numbers"),
        (torch.zeros(3).to(torch.float8_e5m2), "asks for torch._utils._rebuild_tensor_v3"),
        (Calls(torch._utils._rebuild_qtensor), "asks for torch._utils._rebuild_qtensor"),
    ],
    ids=["sparse", "meta", "complex", "int", "bool", "float8", "quantised"],
)
def test_tensors_of_other_kinds(refused, tensor, message):
    """They ended in a traceback from inside torch when they were copied, or would be trained as they are."""
    assert message in refused({"module": {"w": tensor}})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Calls(bytearray, 10**12), "asks for"),
        (Calls(collections.OrderedDict, [("a", 1)]), "collections.OrderedDict with 1 arguments"),
        (Calls(collections.Counter, "abc"), "asks for collections.Counter"),
        ({(1, 2): 3}, "a tuple as a key"),
        (Calls(torch.Size), "torch.Size with 0 arguments"),
        (
            Calls(torch._utils._rebuild_tensor_v2, "no storage", 0, (1,), (1,), False, None),
            "in the place of a Storage",
        ),
        (sys, "asks for"),
    ],
    ids=["bytearray", "filled dict", "counter", "tuple key", "empty size", "no storage", "module"],
)
def test_calls_that_copy_or_make_memory(refused, value, message):
    """Repeated with one large argument, each such call is a few bytes in the file and megabytes in memory."""
    if value is sys:
        value = Calls(__import__, "os")
    said = refused({"module": {"w": torch.zeros(1)}, "beside": value})
    assert message in said
    assert "nothing was executed" in said


class WithStorage(pickle.Pickler):
    """Writes the text STORAGE as torch writes the storage of a tensor."""

    def persistent_id(self, value):
        """What torch.save gives for a storage."""
        return ("storage", torch.FloatStorage, "0", "cpu", 4) if value == "STORAGE" else None


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (-1, (2,), (1,)),
        (0, (-2,), (1,)),
        (0, (2,), (-1,)),
        (0, (2, 2), (1,)),
        (0, (2.0,), (1,)),
        (True, (2,), (1,)),
        (0, [2], (1,)),
    ],
)
def test_a_tensor_without_a_proper_size(offset, size, stride):
    """What lies before its storage, or backwards in it, is somebody else's memory."""
    for arguments, fine in [((0, (2,), (1,)), True), ((offset, size, stride), False)]:
        file = io.BytesIO()
        WithStorage(file, 2).dump(Calls(torch._utils._rebuild_tensor_v2, "STORAGE", *arguments, False, None))
        if fine:
            assert read_stored_data(file.getvalue()) == StoredTensor(Storage(torch.float32, "0"), *arguments)
        else:
            with pytest.raises(NotData, match="a tensor without a proper size|in the place of a tuple"):
                read_stored_data(file.getvalue())


def test_a_pickle_of_many_megabytes_is_not_even_read(refused):
    """A run of the authors has kilobytes of it beside its tensors; working through more would take minutes."""
    assert "its pickle has more than 4 MiB" in refused({"module": {"w": "x" * (5 << 20)}})


def test_damaged_pickles_end_in_one_kind_of_error():
    """Any instruction in any order: whatever a flipped byte makes of it is data or one line, never a traceback."""
    content = {
        "module": collections.OrderedDict(w=[1, 2.5, "text", (1, 2), {"a": {1, 2}}]),
        "n": 2**40,
        "b": b"x",
    }
    generator = random.Random(1)
    outcomes = collections.Counter()
    for protocol in (2, 4):
        whole = pickle.dumps(content, protocol)
        for _ in range(3000):
            raw = bytearray(whole[: generator.randrange(len(whole) // 2, len(whole) + 1)])
            for _ in range(generator.randrange(1, 4)):
                raw[generator.randrange(len(raw))] = generator.randrange(256)
            try:
                read_stored_data(bytes(raw))
                outcomes["data"] += 1
            except NotData:
                outcomes["refused"] += 1
    assert set(outcomes) == {"data", "refused"}
    with pytest.raises(NotData):
        read_stored_data(b"")


@pytest.mark.parametrize("key", [2**61 - 1, -(2**40), 2.0**61])
def test_keys_that_may_collide(key):
    """Numbers can be chosen to have one hash, and a dict of them takes time that grows with their square."""
    with pytest.raises(NotData, match="as a key"):
        read_stored_data(pickle.dumps({key: 1}))
