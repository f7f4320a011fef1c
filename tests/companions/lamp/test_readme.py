"""The commands of companions/lamp/README.md."""

import importlib
import shlex

import pytest

from tests.conftest import ROOT
from tests.documents import commands

README = (ROOT / "companions" / "lamp" / "README.md").read_text(encoding="utf-8")
COMMANDS = [command for command in commands(README) if command.startswith("python -m companions.lamp.")]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_flags_that_exist(command):
    """What is copied from the page is refused, and the reader is left to guess the flag."""
    _, _, module, *flags = shlex.split(command)
    is_package = (ROOT / module.replace(".", "/")).is_dir()
    importlib.import_module(f"{module}.__main__" if is_package else module).parser().parse_args(flags)
