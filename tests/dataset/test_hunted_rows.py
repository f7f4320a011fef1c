"""Kept rows that no job wrote as they are: they are read, or refused in one line with the file."""

import json
import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset.row_files import KeptRows
from tests.hunted import files, judged, values, with_a_part_replaced
from utils.errors import UserError

ROWS = '{"number": 0, "row": {"a": "x"}}\n{"number": 2, "row": {"a": "é"}}\n'
SETTINGS = {"a": 1, "b": [1.5, "c"]}


def _open(folder, distributed):
    with KeptRows(folder, SETTINGS, distributed, 4, {"a": str}) as rows:
        assert all(0 <= number < 4 and isinstance(row["a"], str) for number, row in rows.rows.items())


@pytest.fixture
def kept(tmp_path):
    """The folder of a job that was stopped."""
    folder = tmp_path / "run" / "job.part"
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text(json.dumps(SETTINGS))
    (folder / "rows.0.jsonl").write_text(ROWS)
    return folder


@given(content=files(ROWS))
def test_rows(kept, survived, distributed, content):
    """A row that a disk damaged must be named: in the result it would be another example's."""
    (kept / "rows.0.jsonl").write_bytes(content)
    judged(lambda: _open(kept, distributed), kept)
    survived("bad inputs")


@given(value=values, random=st.randoms(use_true_random=False))
def test_rows_of_any_values(kept, survived, distributed, value, random):
    """Valid JSON that is no row of the job."""
    row = with_a_part_replaced({"number": 1, "row": {"a": "x"}}, value, random)
    (kept / "rows.0.jsonl").write_text(json.dumps(row) + "\n")
    judged(lambda: _open(kept, distributed), kept)
    survived("bad inputs")


@given(content=files(json.dumps(SETTINGS)))
def test_records(kept, survived, distributed, content):
    """The record that says whether rows are of these settings."""
    (kept / "settings.json").write_bytes(content)
    judged(lambda: _open(kept, distributed), kept)
    survived("bad inputs")


@pytest.mark.parametrize("name", ["lock", "rows.0.jsonl", "rows.7.jsonl", "settings.json", ""])
def test_links_out_of_the_folder(kept, survived, distributed, tmp_path, name):
    """Rows in a run folder from somebody else: a planted link had a file of the reader's own cut, or written to."""
    outside = tmp_path / "outside"
    if name:
        outside.write_text("mine, without a last line end")
        (kept / name).unlink(missing_ok=True)
        (kept / name).symlink_to(outside)
    else:
        shutil.move(kept, outside)
        kept.symlink_to(outside)
    before = {path: os.stat(path) for path in (outside, *outside.glob("*"))}
    with pytest.raises(UserError, match="leads out of its folder"):
        _open(kept, distributed)
    after = {path: os.stat(path) for path in (outside, *outside.glob("*"))}
    assert {path: stat.st_size for path, stat in before.items()} == {
        path: stat.st_size for path, stat in after.items()
    }
    survived("bad inputs")
