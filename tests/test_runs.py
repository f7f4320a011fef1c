"""Run folders: names, collisions, finding them, and files that are never half there."""

import json
import os
import time
from pathlib import Path

import pytest

from utils.errors import UserError
from utils.runs import CHECKPOINTS, create_run_folder, find_runs, json_line, run_name, write_whole

NOW = time.strptime("2024-06-30 07:05", "%Y-%m-%d %H:%M")


def _run(folder):
    (folder / CHECKPOINTS).mkdir(parents=True)
    return folder


def test_run_names():
    """The name must keep a stem with dots, and leave out what was not changed."""
    assert (
        run_name("config/opt-1.3b.yml", [("LR", 0.1), ("SLW", None), ("NOISE", 0.0)])
        == "opt-1.3b_LR=0.1_NOISE=0.0"
    )
    assert run_name("config/opt-1.3b.yml", [("LR", 0.1)], "mine") == "mine_LR=0.1"
    assert run_name("config/opt-1.3b.yml", []) == "opt-1.3b"


def test_a_second_run_of_the_same_minute_gets_its_own_folder(tmp_path):
    """Two runs in one folder overwrite each other's checkpoints."""
    folders = [create_run_folder(tmp_path / "logs", "x_LR=1", NOW) for _ in range(3)]
    assert [folder.name for folder in folders] == [
        "x_LR=1_2024-06-30-0705",
        "x_LR=1_2024-06-30-0705-2",
        "x_LR=1_2024-06-30-0705-3",
    ]
    assert all(folder.is_dir() for folder in folders)


def test_a_run_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    """A log folder that is a file."""
    (tmp_path / "logs").write_text("x")
    with pytest.raises(UserError, match="cannot make the run folder .*logs"):
        create_run_folder(tmp_path / "logs", "x", NOW)


def test_runs_are_found_at_the_path_or_below(tmp_path):
    """A parent of several runs is decoded run by run, whatever else lies in it."""
    first, second = _run(tmp_path / "b_LR=1"), _run(tmp_path / "a_LR=2")
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / CHECKPOINTS).write_text("a file")
    assert find_runs(tmp_path) == [second, first]
    assert find_runs(tmp_path, "*LR=1*") == [first]
    assert find_runs(str(first)) == [first]
    assert find_runs(tmp_path.parent, f"{tmp_path.name}/*=2") == [second]


@pytest.mark.parametrize(
    ("path", "pattern", "message"),
    [
        ("none", "*", "none: no such folder"),
        ("file", "*", "file: no such folder"),
        ("empty", "*", "no checkpoint here .*train with --save_model=yes first"),
        (".", "*LR=9*", r"no checkpoint here .*'\*LR=9\*'"),
        (".", "", "--path_pattern '': no pattern"),
        (".", "/abs", "--path_pattern '/abs': no pattern"),
    ],
)
def test_no_run_is_a_clear_error(tmp_path, path, pattern, message):
    """Decoding nothing without a word, or a traceback from the pattern."""
    _run(tmp_path / "run_LR=1")
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        find_runs(tmp_path / path, pattern)


def test_write_whole_replaces(tmp_path):
    """The plain case, with text that is not ASCII, and nothing left beside the file."""
    target = tmp_path / "result.txt"
    write_whole(target, "old")
    write_whole(target, "née\n")
    assert target.read_bytes() == "née\n".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["result.txt"]


@pytest.mark.parametrize("broken", ["write", "replace"])
def test_write_whole_keeps_the_old_content_when_writing_fails(tmp_path, monkeypatch, broken):
    """A full disk in the middle of writing must not destroy the result that is there."""
    target = tmp_path / "result.txt"
    write_whole(target, "old")

    def half(path, text, encoding):
        with path.open("w", encoding=encoding) as stream:
            stream.write(text[: len(text) // 2])
        raise OSError(28, "No space left on device")

    def refuse(source, destination):
        raise OSError(13, "Permission denied")

    if broken == "write":
        monkeypatch.setattr(Path, "write_text", half)
    else:
        monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(UserError, match=r"cannot write .*result\.txt: (No space|Permission)"):
        write_whole(target, "new content")
    assert target.read_text(encoding="utf-8") == "old"


def test_write_whole_needs_its_folder(tmp_path):
    """A missing folder is the user's to mend: no traceback."""
    with pytest.raises(UserError, match="cannot write .*No such file or directory"):
        write_whole(tmp_path / "none" / "x.txt", "x")


def test_json_lines_are_one_line_each():
    """A newline in a text must not end the row."""
    row = {"prediction": "a\nb é", "prompt": None}
    line = json_line(row)
    assert line.count("\n") == 1
    assert line.endswith("\n")
    assert "é" in line
    assert json.loads(line) == row
