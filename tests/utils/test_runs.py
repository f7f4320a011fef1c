"""Run folders: names, collisions, and finding them."""

import multiprocessing
import time

import pytest

from utils.errors import UserError
from utils.runs import CHECKPOINTS, TRAINED, create_run_folder, find_runs, run_name, trained_file

NOW = time.strptime("2024-06-30 07:05", "%Y-%m-%d %H:%M")
FIRST = {"config.yml": "x: 1\n"}


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
    folders = [create_run_folder(tmp_path / "logs", "x_LR=1", FIRST, NOW) for _ in range(3)]
    assert [folder.name for folder in folders] == [
        "x_LR=1_2024-06-30-0705",
        "x_LR=1_2024-06-30-0705-2",
        "x_LR=1_2024-06-30-0705-3",
    ]
    assert all([path.name for path in folder.iterdir()] == ["config.yml"] for folder in folders)
    assert len(list((tmp_path / "logs").iterdir())) == 3  # nothing is left of what a folder is made of


def _make_many(log_dir, start, found):
    start.wait()
    found.put([create_run_folder(log_dir, "x", FIRST, NOW) for _ in range(20)])


def test_runs_of_the_same_moment_share_no_folder(tmp_path):
    """Two jobs of an array start in the same second: in one folder each would write over the other's checkpoints."""
    context = multiprocessing.get_context("fork")
    start, found = context.Barrier(4), context.Queue()
    log_dir = tmp_path / "not" / "there" / "yet"
    processes = [context.Process(target=_make_many, args=(log_dir, start, found)) for _ in range(4)]
    for process in processes:
        process.start()
    folders = [folder for _ in processes for folder in found.get(timeout=60)]
    for process in processes:
        process.join()
    assert len(set(folders)) == 4 * 20
    assert {folder.name for folder in log_dir.iterdir()} == {folder.name for folder in folders}


def test_a_run_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    """A log folder that is a file."""
    (tmp_path / "logs").write_text("x")
    with pytest.raises(UserError, match="cannot make the run folder .*logs"):
        create_run_folder(tmp_path / "logs", "x", FIRST, NOW)


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


def test_a_run_that_was_passed_on_without_deepspeeds_checkpoints_is_found(tmp_path):
    """The trained part is all that decoding reads; test.py would call a folder with nothing else empty."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / TRAINED).write_bytes(b"x")
    assert find_runs(tmp_path) == find_runs(tmp_path / "run") == [tmp_path / "run"]


def test_a_trained_part_under_its_older_name_is_found(tmp_path):
    """Run folders from before the name was changed would be called empty."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "soft_prompts.safetensors").write_bytes(b"x")
    assert find_runs(tmp_path) == [tmp_path / "run"]
    assert trained_file(tmp_path / "run") == tmp_path / "run" / "soft_prompts.safetensors"
    (tmp_path / "run" / TRAINED).write_bytes(b"y")
    assert trained_file(tmp_path / "run") == tmp_path / "run" / TRAINED  # the later one
    assert trained_file(tmp_path) is None


def test_a_base_lm_that_was_passed_on_without_deepspeeds_checkpoints_is_found(tmp_path):
    """Such a run keeps its LM in model/ and has no other trained part; a folder of that name alone is no run."""
    (tmp_path / "run" / "model").mkdir(parents=True)
    with pytest.raises(UserError, match="no checkpoint here"):
        find_runs(tmp_path)
    (tmp_path / "run" / "model" / "config.json").write_text("{}")
    (tmp_path / "run" / "config.yml").write_text("model: {}")
    assert find_runs(tmp_path) == [tmp_path / "run"]


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


def test_a_pattern_that_is_too_long_for_a_name(tmp_path):
    """The system's refusal ended in a traceback."""
    with pytest.raises(UserError, match="--path_pattern 'xxx.*: File name too long"):
        find_runs(tmp_path, "x" * 300)


def test_a_run_name_is_no_path():
    """`--exp_name=../../x` would write the run outside --log_dir."""
    for name in ("../x", "a/b", "/tmp/x", ".."):
        with pytest.raises(UserError, match="--exp_name .*: a name without a path"):
            run_name("config/a.yml", [], name)
