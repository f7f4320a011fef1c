"""The floors: utils <- dataset <- models <- trainer <- scripts. Nothing imports upward."""

import ast

import pytest

from tests.conftest import ROOT

FLOORS = ("utils", "dataset", "models", "trainer")
FILES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))
SCRIPTS = sorted(ROOT.glob("*.py"))


def imported(path):
    """The first part of every module name that a file imports, wherever the import stands in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_imports_upward(path):
    """A floor that knows the one above cannot be understood, tested or used without it."""
    floor = FLOORS.index(path.relative_to(ROOT).parts[0])
    above = {*FLOORS[floor + 1 :], "tests", *(script.stem for script in SCRIPTS)}
    assert imported(path) & above == set()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_hold_no_logic(path):
    """What stands in a script can be used by nothing else; they parse arguments and call one function."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 50
    assert "tests" not in imported(path)
