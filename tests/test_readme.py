"""The README tells the truth: its tables, its file tree and its commands."""

import re
import shlex

import pytest

from models.arguments import train_parser
from models.configuration import load_config
from models.decoding.arguments import chat_parser, decode_parser
from models.settings import Config
from tests.conftest import ROOT
from utils.config.schema import Section
from utils.config.strict_yaml import read_yaml

README = (ROOT / "README.md").read_text(encoding="utf-8")
PARSERS = {"train.py": train_parser, "test.py": decode_parser, "interactive_test.py": chat_parser}
FOLDERS = ("config", "data_file", "dataset", "models", "trainer", "utils", "tests")


def section_of(annotation):
    """The Section inside an annotation, or None."""
    kinds = [annotation, *getattr(annotation, "__args__", ())]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)


def keys_of(section, values, prefix=""):
    """Every key with its default and meaning, as a row of the README's table."""
    for key, field in section.model_fields.items():
        inner = section_of(field.annotation)
        if inner is not None:
            yield from keys_of(inner, values.get(key) or {}, f"{prefix}{key}.")
            continue
        default = values.get(key, "")
        if default is None or isinstance(default, bool):
            default = {None: "null", True: "true", False: "false"}[default]
        shown = f"`{default}`" if default != "" else ""
        yield f"| `{prefix}{key}` | {shown} | {field.description} |"


def commands():
    """The lines of the README's code blocks that call a script of the project."""
    blocks = re.findall(r"```\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    calls = [line for line in lines if line.startswith(("python ", "deepspeed "))]
    return [line for line in calls if set(line.split()) & PARSERS.keys()]


def test_the_table_of_keys_is_the_schema():
    """A key that was added, renamed or given another default would be missing or wrong in the README."""
    rows = list(keys_of(Config, read_yaml(DEFAULTS)))
    assert [row for row in rows if row not in README] == []


@pytest.mark.parametrize("script", PARSERS)
def test_the_table_of_arguments_is_the_parser(script):
    """A flag that was added or renamed would be missing in the README."""
    part = README.split(f"**{script}**")[1].split("**")[0]
    flags = {action.option_strings[0] for action in PARSERS[script]()._actions} - {"-h"}
    assert set(re.findall(r"^\| `(--\w+)`", part, re.MULTILINE)) == flags


@pytest.mark.parametrize("line", commands())
def test_a_printed_command_parses(line):
    """A reader who copies a command would meet an unknown flag or a missing configuration."""
    words = shlex.split(line.split("#")[0])
    script = next(word for word in words if word in PARSERS)
    args = PARSERS[script]().parse_args(words[words.index(script) + 1 :])
    if script == "train.py" and "..." not in line:
        load_config(ROOT / args.config, args.assignments)


def test_the_file_tree_is_complete():
    """A module that the tree does not name, or names and does not exist, leads the reader astray."""
    tree = README.split("## Files")[1].split("```")[1]
    named = set(re.findall(r"[\w-]+\.py\b", tree))
    present = {path.name for folder in FOLDERS[2:-1] for path in (ROOT / folder).glob("*.py")} - {
        "__init__.py"
    }
    assert present - named == set()
    scripts = {path.name for path in ROOT.glob("*.py")}
    assert named - present - scripts <= {"generate.py"}


def test_the_pinning_tests_exist():
    """The table of departures would point to a test that is gone."""
    assert {
        name for name in re.findall(r"`(test_\w+\.py)`", README) if not (ROOT / "tests" / name).is_file()
    } == set()
