"""A dictionary on the disk."""

import re
from pathlib import Path

import pytest

from companions.lamp.disk_table import DiskTable
from utils.errors import UserError


def test_texts_are_found_by_their_keys():
    """A key that meets another one's text gives a question another question's output."""
    with DiskTable() as table:
        assert table.get("a") is None
        assert table.add("a", "one\u2028é")
        assert table.add("A", "")
        assert table.add("1", "int-like")
        assert table.add("01", "another")
        assert [table.get(key) for key in ("a", "A", "1", "01", "1.0")] == [
            "one\u2028é",
            "",
            "int-like",
            "another",
            None,
        ]


def test_the_first_of_two_texts_stays():
    """Of two golds with one id the first counts, and so it must in the table."""
    with DiskTable() as table:
        assert table.add("a", "first")
        assert not table.add("a", "second")
        assert table.get("a") == "first"


def test_half_a_character_is_kept():
    """A key of a hostile file would end in a traceback."""
    with DiskTable() as table:
        assert table.add("\ud800", "\udfff")
        assert table.get("\ud800") == "\udfff"


def fill(table, texts):
    """Add texts of a thousand characters."""
    for number in range(texts):
        table.add(str(number), "x" * 1000)


def test_a_full_disk_is_one_line():
    """A traceback of the database would name none of the user's files, and no way out."""
    with DiskTable() as table:
        table._database.execute("PRAGMA max_page_count = 4")
        with pytest.raises(UserError, match="temporary table: .* full; SQLITE_TMPDIR=FOLDER"):
            fill(table, 1000)


def test_the_texts_lie_on_the_disk():
    """In memory, the table would be a dictionary that takes more of it."""
    with DiskTable() as table:
        tracker = Path("/proc/self/status")
        before = resident(tracker)
        fill(table, 50_000)
        assert resident(tracker) - before < 20_000  # KiB, of about 50,000


def resident(tracker):
    """Memory of this process that is not of files, in KiB."""
    if not tracker.exists():
        pytest.skip("only Linux says how much memory is used")
    return int(re.search(r"RssAnon:\s+(\d+)", tracker.read_text())[1])
