"""Folders of rows: what a crash, a second job or a stranger leaves there is found out, and nothing of it is mixed."""

import json

import pytest

from dataset.row_files import Appender, KeptRows, RowFolder, remove_unused
from tests.ranks import on_ranks
from utils.distributed import DistributedContext
from utils.errors import UserError

KEYS = {"text": str, "loss": (float, type(None))}
ROW = {"text": "\u2028 \ud83d\ude00", "loss": 0.1}


@pytest.fixture
def kept(tmp_path, distributed):
    """Makes the rows of a job of four."""

    def make(settings=None, context: DistributedContext = distributed) -> KeptRows:
        return KeptRows(tmp_path / "job.part", settings or {"seed": 1}, context, 4, KEYS)

    return make


def test_rows_are_what_they_were(kept):
    """A loss with a digit less, or a text with a character less: the result is no longer that of one call."""
    with kept() as first:
        first.add({2: ROW, 0: {"text": "", "loss": None}})
    with kept() as second:
        assert second.rows == {2: ROW, 0: {"text": "", "loss": None}}
        assert list(second.rows[2]) == list(ROW)
        assert second.done == {0, 2}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"number": 4, "row": ROW}, "4 is not the number of a row"),
        ({"number": True, "row": ROW}, "True is not the number of a row"),
        ({"number": 1, "row": {**ROW, "text": 3}}, "row: text: 3 is of a wrong type"),
        ({"number": 1, "row": {"text": ""}}, "the key 'loss' is missing"),
        ({"number": 1, "row": []}, "expected an object"),
    ],
)
def test_a_strange_row_is_told_by_its_place(kept, line, message):
    """It would end up in a result, or as a traceback, hours later."""
    with kept() as first:
        first.add({0: ROW})
    with (first.folder / "rows.0.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    with pytest.raises(UserError, match=rf"rows.0.jsonl:2.*{message}"):
        kept()


def test_settings_are_compared_as_json(kept, capsys):
    """A tuple that JSON gives back as a list: every call would begin anew, for ever."""
    with kept({"sizes": (1, 2)}) as first:
        first.add({0: ROW})
    with kept({"sizes": (1, 2)}) as second:
        assert second.done == {0}
    with kept({"sizes": (1, 3)}) as third:
        assert not third.done
    assert "(sizes differ): it begins anew" in capsys.readouterr().out


def test_rows_without_a_record_are_nobodys(kept):
    """A crash between the two: rows of unknown settings in the result."""
    with kept() as first:
        first.add({0: ROW})
    (first.folder / "settings.json").unlink()
    with kept() as second:
        assert not second.done


def test_a_damaged_record_is_told_by_its_name(kept):
    """A traceback from the JSON reader."""
    with kept() as first:
        pass
    (first.folder / "settings.json").write_text("{")
    with pytest.raises(UserError, match="settings.json: not JSON"):
        kept()


def test_only_one_job_at_a_time(kept):
    """Two jobs would each take the half of the other's line for that of a crash; and one may not delete the rows."""
    with kept() as first:
        first.add({0: ROW})
        with pytest.raises(UserError, match="another job is at work there"):
            kept()
        remove_unused(first.folder)
        assert first.folder.is_dir()
    remove_unused(first.folder)
    assert not first.folder.exists()


def test_ranks_share_what_is_left(kept):
    """A number that two ranks have, or none."""
    with kept() as alone:
        alone.add({2: ROW})

    def job(rank):
        with kept(context=rank) as mine:
            left = mine.left([[0, 1], [2, 3]], rank)
            for batch in left:
                mine.add(dict.fromkeys(batch, ROW))
            return left

    assert on_ranks(3, job) == [[[0, 1]], [[3]], []]
    with kept() as whole:
        assert whole.done == {0, 1, 2, 3}


def test_a_failure_to_write_is_one_line(tmp_path):
    """A folder that may not be written to."""
    with pytest.raises(UserError, match="cannot write .*No such file"):
        Appender(tmp_path / "none" / "rows.jsonl")
    (tmp_path / "settings.json").write_text("[]")
    with pytest.raises(UserError, match="expected an object"):
        RowFolder(tmp_path).settings()
