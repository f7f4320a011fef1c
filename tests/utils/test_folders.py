"""Folders that are written whole: whatever breaks, the old one is there or the new one."""

import errno
import sys
from functools import partial

import pytest

from tests.kills import Moment, run_killed
from utils import folders
from utils.errors import UserError
from utils.folders import remove_parts, write_folder


def names(folder):
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("number", range(1, 6))
def test_a_folder_is_swapped_whole(tmp_path, break_at, monkeypatch, number):
    """A base LM whose weights are of one epoch and whose tokenizer is of another, or of which half is there."""
    folder = tmp_path / "model"

    def fill(text, part):
        for name in ("a", "b"):
            (part / name).write_text(text)

    monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    write_folder(folder, partial(fill, "old"))
    calls = break_at(number)
    with pytest.raises(UserError, match=f"cannot write {folder}: Input/output error"):
        write_folder(folder, partial(fill, "new"))
    assert calls[:number] == ["fsync", "fsync", "rename", "rename", "fsync"][:number]
    assert {(folder / name).read_text() for name in ("a", "b")} == {"old" if number < 5 else "new"}
    assert names(tmp_path) == ["model"]


def test_a_folder_that_cannot_be_filled_leaves_the_old_one(tmp_path):
    """The old LM must outlive a full disk, and no half of the new one may lie about."""
    write_folder(tmp_path / "model", lambda part: (part / "a").write_text("old"))

    def stop(part):
        (part / "a").write_text("new")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match="cannot write .*/model: No space left on device"):
        write_folder(tmp_path / "model", stop)
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "a").read_text() == "old"


def test_a_folder_that_is_wanted_stays(tmp_path):
    """Whoever reads it would miss it between two renames; it is asked when all is written, not before."""
    folder, written = tmp_path / "model", []

    def fill(part):
        (part / "a").write_text("new")
        written.append(part)

    def is_there():
        assert written
        return (folder / "a").is_file()

    write_folder(folder, fill, unless=is_there)
    (folder / "a").write_text("of another writer")
    before = folder.stat().st_ino
    write_folder(folder, fill, unless=is_there)
    assert (folder / "a").read_text() == "of another writer"
    assert folder.stat().st_ino == before
    assert names(tmp_path) == ["model"]


def test_a_link_to_a_folder_is_replaced(tmp_path):
    """The old link stayed behind under the name of a part; what it points to is not ours to delete."""
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a").write_text("old")
    (tmp_path / "model").symlink_to(tmp_path / "far")
    write_folder(tmp_path / "model", lambda part: (part / "a").write_text("new"))
    assert names(tmp_path) == ["far", "model"]
    assert (tmp_path / "far" / "a").read_text() == "old"
    assert (tmp_path / "model" / "a").read_text() == "new"


def _fill(text, part):
    (part / "a").write_text(text)
    (part / "b").write_text(text)


@pytest.mark.skipif(sys.platform != "linux", reason="no other system exchanges two names in one step")
@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (Moment("utils.folders:flush_to_disk", 2), "old"),
        (Moment("utils.folders:_exchange"), "old"),
        (Moment("utils.folders:_exchange", after=True), "new"),
        (Moment("shutil:rmtree"), "new"),
    ],
    ids=["filling", "before", "after", "removing"],
)
def test_a_kill_leaves_the_old_folder_or_the_new_one(tmp_path, moment, text, survived):
    """Between two renames a killed run has no LM under its name, and days of training look lost."""
    folder = tmp_path / "model"
    write_folder(folder, partial(_fill, "old"))
    assert run_killed(partial(write_folder, folder, partial(_fill, "new")), moment).killed
    assert {(folder / name).read_text() for name in "ab"} == {text}
    assert len(names(tmp_path)) == 2
    (tmp_path / ".part-link").symlink_to(folder)
    (tmp_path / ".part-file").write_text("of a writer who is at work")
    remove_parts(tmp_path)
    assert names(tmp_path) == [".part-file", ".part-link", "model"], (
        "the unfinished one, of many gigabytes, is gone"
    )
    survived("kills")
