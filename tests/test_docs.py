"""The documents tell the truth: names and links lead somewhere, the example replies, the README is short.

Their commands: tests/test_docs_commands.py. Their examples of extensions: tests/test_extensions.py.
"""

import ast
import re

import pytest

from tests.conftest import ROOT
from tests.documents import TEXTS, code_blocks, section
from tests.test_floors import FLOORS

README, ARCHITECTURE = TEXTS["README.md"], TEXTS["docs/architecture.md"]


def test_the_python_example_replies(run_copy, capsys):
    """The six lines are what a researcher starts from."""
    (code,) = code_blocks(README, "python")
    assert len([line for line in code.splitlines() if line]) == 6
    exec(code.replace('"RUN"', repr(str(run_copy))), {})
    assert capsys.readouterr().out.strip()


def test_the_readme_is_short():
    """Nobody reads a manual to find out what a project is."""
    assert len(README.splitlines()) <= 150
    assert len(ARCHITECTURE.splitlines()) <= 350


def test_the_file_tree_is_complete():
    """A module that the tree does not name, or names and does not exist, leads the reader astray."""
    trees = [
        code_blocks(section(TEXTS[name], "## Files"))
        for name in ("docs/architecture.md", "docs/companions.md")
    ]
    named, folders = set(), []
    for line in [line for (tree,) in trees for line in tree.splitlines()]:
        depth = (len(line) - len(line.lstrip())) // 2
        names = re.match(r"\s*((?:[\w./]+ )*[\w./]+)", line)[1].split()
        names = [name for name in names if name.endswith((".py", "/"))]
        assert names, line
        del folders[depth:]
        if names[0].endswith("/"):
            folders.append(names[0].rstrip("/"))
            continue
        inner, _, first = names[0].rpartition("/")
        for name in [first, *names[1:]]:
            named.add("/".join([*folders, *([inner] if inner else []), name]))
    present = {path.name for path in ROOT.glob("*.py")}
    for package in FLOORS:
        present |= {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py")}
    assert named == {path for path in present if not path.endswith("__init__.py")}


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name):
    """A page, a picture or a heading that was moved leaves the reader before nothing."""
    path = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[name]):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        assert (path.parent / file).is_file(), target
        if anchor:
            headings = re.findall(
                r"^#+ (.*)$", TEXTS[str((path.parent / file).resolve().relative_to(ROOT))], re.MULTILINE
            )
            assert anchor in {
                re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
            }


@pytest.mark.parametrize("name", TEXTS)
def test_named_files_exist(name):
    """A file that the text sends the reader to is gone, or lies elsewhere by now."""
    made = (
        "data_file/ConvAI2/",
        "data_file/personagpt/",
        "public_ckpt/",
        "ds_ckpt/",
        "runs_bench/",
        "model/",
    )  # by a download or by a run
    examples = {"models/baselines/bitfit.py", "models/spt/balance.py"}  # those of docs/extending.md
    examples |= {"utils/metrics/repetition.py", "dataset/tab_separated.py"}
    for target in set(re.findall(r"`([\w./-]+/(?:[\w-]+\.\w+)?)`", TEXTS[name])) - examples:
        assert target.startswith(made) or (ROOT / target).exists(), target
    for test in set(re.findall(r"`(test_\w+\.py)`", TEXTS[name])):
        assert list((ROOT / "tests").rglob(test)), test


def test_the_sections_that_docstrings_name_exist():
    """`docs/method.md, section 4` in a docstring would lead to another section, or to none."""
    numbers = set(re.findall(r"^## (\d+)\.", TEXTS["docs/method.md"], re.MULTILINE))
    for package in FLOORS:
        for path in (ROOT / package).rglob("*.py"):
            source = path.read_text(encoding="utf-8")
            assert set(re.findall(r"docs/method\.md,\s+sections? (\d+)", source)) <= numbers, path


def test_python_blocks_are_python():
    """What is copied from a page would be a syntax error."""
    for text in TEXTS.values():
        for block in code_blocks(text, "python"):
            ast.parse(block)
