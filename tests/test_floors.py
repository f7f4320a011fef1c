"""The floors: utils <- dataset <- models <- trainer <- companions; and no word of the field in utils/ and trainer/."""

import ast
import io
import re
import tokenize

import pytest

from tests.conftest import ROOT

FLOORS = ("utils", "dataset", "models", "trainer", "companions")
DOCTOR = ROOT / "utils" / "doctor.py"  # a script above all floors, by the name of its command
FILES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py") if path != DOCTOR)
SCRIPTS = [*sorted(ROOT.glob("*.py")), DOCTOR]
# programs that run the project's commands, whatever these are of
PROGRAMS = (ROOT / "trainer" / "demo.py", ROOT / "trainer" / "results")
GENERAL = [
    path
    for path in FILES
    if path.parts[len(ROOT.parts)] in ("utils", "trainer")
    and not any(path.is_relative_to(program) for program in PROGRAMS)
]
COMPANIONS = [path for path in FILES if path.is_relative_to(ROOT / "companions")]
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in FILES}
# of dialogues and of this project's method; a metric may speak of predictions, targets and responses
FIELD = "persona prompt dialogue dialog conversation speaker utterance retriever chat convai authors".split()
# more, by floor: utils/ serves no kind of model, trainer/ serves any module that has a loss
OF_UTILS = ["load_bit", "soft prompt", "language model"]
OF_TRAINER = "tokenizer retrieval contrastive model_type K V k v".split()
METRICS = ROOT / "utils" / "metrics"  # measures what language models write, so it may name them
ALLOWED = {"soft_prompts.safetensors"}  # a file of older run folders


def imported(source, parts=1):
    """The first part, or parts, of every module name that a source imports, wherever the import stands in it.

    A string that is the name of a module counts: `importlib` is given one.
    """
    return {".".join(name.split(".")[:parts]) for name in imported_names(source)}


def imported_names(source):
    """The whole names of `imported`; what is imported from a package may be a module, and counts as one."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in MODULES:
            names.add(node.value)
    return names


def forbidden_in(path):
    """The words that a file of utils/ or trainer/ may not have."""
    if path.is_relative_to(METRICS):
        return FIELD
    return FIELD + (OF_TRAINER if path.is_relative_to(ROOT / "trainer") else OF_UTILS)


def field_words(source, words):
    """Which of some words stand in names, comments and strings, each with its line."""
    # names of papers have capitals; two words may stand on two lines
    pattern = re.compile(rf"(?<![A-Za-z])({'|'.join(words)})s?(?![A-Za-z])".replace(" ", r"\s+"))
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        text = token.string.lower() if token.type == tokenize.NAME else token.string
        for allowed in ALLOWED:
            text = text.replace(allowed, "")
        found += [f"{token.start[0]}: {match[1]}" for match in pattern.finditer(text)]
    return found


def floor_of(path):
    """The number of the floor that a file stands on."""
    return FLOORS.index(path.relative_to(ROOT).parts[0])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_imports_upward(path):
    """A floor that knows the one above cannot be understood, tested or used without it."""
    above = {*FLOORS[floor_of(path) + 1 :], "tests", *(script.stem for script in SCRIPTS)}
    source = path.read_text(encoding="utf-8")
    assert imported(source) & above == set()
    assert "utils.doctor" not in imported_names(source)


@pytest.mark.parametrize("path", COMPANIONS, ids=lambda path: str(path.relative_to(ROOT)))
def test_companions_do_not_know_each_other(path):
    """A companion that imports another cannot be taken out, or kept alone: each stands on the floors only."""
    names = imported(path.read_text(encoding="utf-8"), parts=2)
    own = {"companions", ".".join(path.relative_to(ROOT).parts[:2])}
    assert {name for name in names if name.split(".")[0] == "companions"} <= own


@pytest.mark.parametrize(
    "source",
    [
        "import models.settings",
        "def later():\n    from models import settings",
        "if TYPE_CHECKING:\n    from models.settings import Config",
        "importlib.import_module('models.settings')",
    ],
)
def test_an_import_is_found_wherever_it_stands(source):
    """An import inside a function would lead upward unseen, and the test above would prove little."""
    assert imported(source) == {"models"}
    assert "models.settings" in imported(source, parts=2)


@pytest.mark.parametrize("path", GENERAL, ids=lambda path: str(path.relative_to(ROOT)))
def test_utils_and_trainer_are_of_no_field(path):
    """What is written for one kind of data or model there cannot serve the next system, and is written twice."""
    assert field_words(path.read_text(encoding="utf-8"), forbidden_in(path)) == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("AUTHORS_CONFIG = 1", ["1: authors"]),
        ('"""Reads\nthe chosen prompts."""', ["1: prompt"]),
        ("x = 1  # of a dialogue", ["1: dialogue"]),
        ("'Neural Conversation Models'; prompted = unchatty = 'soft_prompts.safetensors'", []),
    ],
)
def test_words_of_the_field_are_found(source, words):
    """A search that overlooks names, comments or docstrings would find utils/ clean whatever it holds."""
    assert field_words(source, FIELD) == words


def test_each_floor_has_words_of_its_own():
    """A list that is read for the wrong floor forbids nothing there: the trainer could ask for a tokenizer again."""
    source = "load_bit = tokenizer = 0  # of K\n'''of a language\nmodel'''"
    assert field_words(source, forbidden_in(ROOT / "utils" / "files.py")) == [
        "1: load_bit",
        "2: language\nmodel",
    ]
    assert field_words(source, forbidden_in(ROOT / "trainer" / "loop.py")) == ["1: tokenizer", "1: K"]
    assert field_words(source, forbidden_in(METRICS / "overlap.py")) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_hold_no_logic(path):
    """What stands in a script can be used by nothing else; they parse arguments and call one function."""
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 50
    assert "tests" not in imported(source)


@pytest.mark.parametrize("floor", FLOORS)
def test_tests_mirror_the_packages(floor):
    """Whoever changes a module looks for its tests at the same place; tests elsewhere are not run, or not kept up."""
    tested = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests" / floor).rglob("test_*.py")}
    assert tested <= {path.parent.relative_to(ROOT) for path in FILES}
