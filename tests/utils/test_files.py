"""Files are written whole or not at all, whoever else writes, and whatever breaks."""

import errno
import json
import os
import resource
import stat
import subprocess
import sys
import threading
from functools import partial

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tests.conftest import ROOT
from tests.test_floors import FILES
from utils.appending import append_line
from utils.errors import UserError
from utils.files import json_line, put_in_place, to_json, write_new, write_whole
from utils.folders import write_folder

TEXT = "result.txt"


def names(folder):
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced(tmp_path):
    """Text in the system's own encoding cannot be read elsewhere, and parts that stay behind fill the run folder."""
    write_whole(tmp_path / TEXT, "old")
    write_whole(tmp_path / TEXT, "née\n")
    assert (tmp_path / TEXT).read_bytes() == "née\n".encode()
    assert names(tmp_path) == [TEXT]


@pytest.mark.parametrize("content", [b"\x00\xff", partial(save_file, {"w": torch.ones(3)})])
def test_bytes_and_what_a_library_writes(tmp_path, content):
    """Weights come by a library's own function; they need the same care as text."""
    write_whole(tmp_path / "x", content)
    if callable(content):
        assert load_file(tmp_path / "x")["w"].tolist() == [1, 1, 1]
    else:
        assert (tmp_path / "x").read_bytes() == content
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_decides_who_may_read(tmp_path, umask, mode):
    """Results that only their writer can read cannot be scored by a colleague."""
    before = os.umask(umask)
    try:
        write_whole(tmp_path / TEXT, "x")
        write_new(tmp_path / "new", "x")
        write_folder(tmp_path / "folder", lambda part: (part / "x").write_text("x"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / TEXT).stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~umask


def test_two_writers_never_share_a_part_file(tmp_path):
    """With one fixed name for the part, a reader met half of one text and half of the other."""
    texts = {"a" * 200_000, "b" * 200_000}
    stop = threading.Event()

    def write(text):
        while not stop.is_set():
            write_whole(tmp_path / TEXT, text)

    write_whole(tmp_path / TEXT, "a" * 200_000)
    writers = [threading.Thread(target=write, args=(text,)) for text in texts]
    for writer in writers:
        writer.start()
    try:
        seen = {(tmp_path / TEXT).read_text("utf-8") for _ in range(300)}
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert seen <= texts
    assert names(tmp_path) == [TEXT]


def test_a_planted_link_is_not_followed(tmp_path):
    """In a shared folder a link under the name of the part file would have its owner's file overwritten."""
    mine = tmp_path / "mine"
    mine.write_text("precious")
    folder = tmp_path / "shared"
    folder.mkdir()
    for name in (f".{TEXT}.part", f"{TEXT}.part", TEXT):
        (folder / name).symlink_to(mine)
    write_whole(folder / TEXT, "x")
    assert mine.read_text() == "precious"
    assert (folder / TEXT).read_text() == "x"
    assert not (folder / TEXT).is_symlink()


@pytest.mark.parametrize(
    "content",
    [
        lambda part: part.write_bytes(b"x" * 100_000),
        "x" * 100_000,
        partial(save_file, {"w": torch.ones(100_000)}),
    ],
    ids=["a function", "text", "safetensors"],
)
def test_a_full_disk_is_one_line_and_costs_nothing(tmp_path, content):
    """A limit on the size of files stands for the full disk: the old content stays, no part is left."""
    write_whole(tmp_path / "x", "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(UserError) as caught:
            write_whole(tmp_path / "x", content)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value).startswith(f"cannot write {tmp_path / 'x'}: ")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "x").read_text() == "old"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left"), SafetensorError("I/O"), Exception("os error 28")]
)
def test_whatever_a_library_says_is_one_line(tmp_path, error):
    """safetensors and tokenizers have errors of their own for a full disk."""

    def stop(part):
        raise error

    for write in (write_whole, write_folder):
        with pytest.raises(UserError, match=f"cannot write {tmp_path / 'x'}: "):
            write(tmp_path / "x", stop)
    assert names(tmp_path) == []


def test_a_defect_keeps_its_traceback(tmp_path):
    """A wrong call in the project is not the user's disk."""

    def stop(part):
        raise KeyError("x")

    with pytest.raises(KeyError):
        write_whole(tmp_path / "x", stop)
    assert names(tmp_path) == []


def test_what_cannot_be_written_is_named(tmp_path):
    """A missing folder, a folder in the file's place, half a character pair: the user's to know, no traceback."""
    with pytest.raises(UserError, match="cannot write .*none/x.txt: No such file or directory"):
        write_whole(tmp_path / "none" / "x.txt", "x")
    (tmp_path / "x").mkdir()
    with pytest.raises(UserError, match="cannot write .*/x: a folder has its name"):
        write_whole(tmp_path / "x", "x")
    with pytest.raises(UserError, match="cannot write .*/y: 'utf-8' codec can't encode"):
        write_whole(tmp_path / "y", "\ud800")
    assert names(tmp_path) == ["x"]


def test_a_new_file_never_takes_a_name_that_is_taken(tmp_path):
    """Two chats that save at the same time: one conversation would be lost. A dangling link is a name, too."""
    assert write_new(tmp_path / "x", "mine")
    assert not write_new(tmp_path / "x", "yours")
    assert (tmp_path / "x").read_text() == "mine"
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert not write_new(tmp_path / "link", "yours")
    assert names(tmp_path) == ["link", "x"]
    with pytest.raises(UserError, match="cannot write"):
        write_new(tmp_path / "y", "\ud800")
    assert names(tmp_path) == ["link", "x"]


def test_lines_are_added_each_on_its_own(tmp_path):
    """A line that continues one which a crash cut off is lost with it; one that replaces the file costs all others."""
    path = tmp_path / TEXT
    append_line(path, "née\n")
    append_line(path, "b\n")
    assert path.read_bytes() == "née\nb\n".encode()
    path.write_bytes(b"cut o")
    append_line(path, "c\n")
    assert path.read_bytes() == b"cut o\nc\n"
    with pytest.raises(UserError, match="result.txt"):
        append_line(tmp_path / "none" / TEXT, "c\n")


def test_a_finished_part_is_put_in_place(tmp_path):
    """What is fetched piece by piece takes its name at the end, by the same steps."""
    (tmp_path / "x.part").write_text("new")
    put_in_place(tmp_path / "x.part", tmp_path / "x")
    assert names(tmp_path) == ["x"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot write .*folder: Is a directory"):
        put_in_place(tmp_path / "x", tmp_path / "folder")
    assert names(tmp_path) == ["folder", "x"]


def test_json_lines_are_one_line_each():
    """A newline in a text must not end the row."""
    row = {"prediction": "a\nb é", "prompt": None}
    line = json_line(row)
    assert line.count("\n") == 1
    assert line.endswith("\n")
    assert "é" in line
    assert json.loads(line) == row


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_holds_finite_numbers_only(number):
    """NaN is no JSON: other programs cannot read the file, and ours would score it."""
    with pytest.raises(UserError, match="'nll' cannot be written as JSON: Out of range float values"):
        json_line({"prompt": 1, "nll": number})
    with pytest.raises(UserError, match="'scores' cannot be written"):
        to_json({"scores": [1.0, number]})


def test_everything_that_is_written_whole_comes_through_here():
    """A second scheme would be a second set of faults: temporary names, renames and flushes lie in one place."""
    words = ("os.replace(", ".rename(", "tempfile.", ".replace(folder", "os.rename(", "shutil.rmtree(")
    found = {
        str(path.relative_to(ROOT))
        for path in FILES
        if any(word in path.read_text("utf-8") for word in words)
    }
    assert found == {"utils/files.py", "utils/folders.py"}


def test_reading_the_module_is_quick():
    """The scripts' --help and their first errors must not wait for torch."""
    code = "import sys, utils.files; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_weights_can_be_read_by_others(tmp_path):
    """safetensors puts a file of its own in place of the part, which nobody but its owner may read."""
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "x", partial(save_file, {"w": torch.ones(3)}))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o644


def test_a_new_file_has_its_name_only_when_it_is_whole(tmp_path):
    """A writer that is killed would leave an empty file, which takes the name for ever."""
    seen = []
    assert write_new(tmp_path / "x", lambda part: seen.append((tmp_path / "x").exists()))
    assert seen == [False]


def test_a_new_file_where_links_are_not_supported(tmp_path, monkeypatch):
    """Some network disks and memory cards have no hard links; the chat must be saved there, too."""

    def refuse(source, target):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert write_new(tmp_path / "x", "mine")
    assert not write_new(tmp_path / "x", "yours")
    assert (tmp_path / "x").read_text() == "mine"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("plant", ["file", "link"])
def test_the_name_of_a_part_is_made_exclusively(tmp_path, monkeypatch, plant):
    """Whoever guesses the name of the part would have another's file overwritten through a link of that name."""
    mine = tmp_path / "mine"
    mine.write_text("precious")
    part = tmp_path / ".part-guessed"
    part.symlink_to(mine) if plant == "link" else part.write_text("precious")
    monkeypatch.setattr("utils.files.secrets.token_hex", lambda size: "guessed")
    with pytest.raises(UserError, match="File exists"):
        write_whole(tmp_path / "x", "new")
    assert mine.read_text() == part.read_text() == "precious"
