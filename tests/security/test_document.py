"""SECURITY.md: each promise is tried by a test, and its figures are those of the code."""

import ast
import re

from companions.lamp.data import archives
from models.release import checkpoint
from tests.conftest import ROOT
from tests.documents import TEXTS, section
from utils import pretrained_files, untrusted
from utils.config import strict_yaml

TEXT = TEXTS["SECURITY.md"]


def test_each_promise_names_a_test_that_exists():
    """A promise that nothing tries is broken by the next change, and nobody notices."""
    promises = [line for line in section(TEXT, "## What is promised").splitlines() if line.startswith("|")][
        2:
    ]
    assert len(promises) > 30
    named = [re.fullmatch(r"\|.*\| `([\w/]+\.py)::(test_\w+)` \|", line) for line in promises]
    assert all(named), [line for line, found in zip(promises, named, strict=True) if not found]
    for file, name in (found.groups() for found in named if found):
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_every_attack_is_a_promise_or_part_of_one():
    """An attack that is tried and not promised is one that nobody knows to be covered."""
    for path in (ROOT / "tests" / "security").glob("test_*.py"):
        assert path.name == "test_document.py" or f"{path.name}::" in TEXT, path.name


def test_the_sizes_are_those_of_the_code():
    """A stated limit that is not the code's has somebody count on it."""
    mib = 1 << 20
    assert (16 * mib, 64 * mib) == (untrusted.LARGEST_HEADER, untrusted.LARGEST_LINE)
    assert (1024 * mib, 256 * mib) == (untrusted.LARGEST_TEXT, pretrained_files.LARGEST_FILE)
    assert (4 * mib, 4096) == (pretrained_files.LARGEST_SETTINGS, pretrained_files.MOST_LAYERS)
    assert (4 * mib, mib, 64 * mib) == (
        checkpoint._LARGEST_PICKLE,
        strict_yaml._LARGEST,
        archives._LARGEST_MESSAGE,
    )
    for words in ("16 MiB", "64 MiB", "1 GiB", "256 MiB", "4 MiB", "4,096"):
        assert words in TEXT
