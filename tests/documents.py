"""The project's documents as tests read them: their code blocks, their commands, and what the examples define."""

import importlib
import re
import sys
from types import ModuleType

from tests.conftest import ROOT

DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "companions").glob("*/*.md")),
)
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in DOCUMENTS}
"""by their paths in the project"""
_PROGRAMS = ("python ", "deepspeed ", "make ", "pip ", "conda ")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def code_blocks(text: str, language: str = "") -> list[str]:
    """The code blocks of a Markdown text in one language; "" for those without."""
    return [block for named, block in _BLOCK.findall(text) if named == language]


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    level = len(heading) - len(heading.lstrip("#"))
    _, found, rest = f"\n{text}".partition(f"\n{heading}\n")
    assert found, f"no heading '{heading}'"
    without_code = _BLOCK.sub(lambda match: " " * len(match[0]), rest)  # a comment in code is no heading
    following = re.search(rf"^#{{1,{level}}} ", without_code, re.MULTILINE)
    return rest[: following.start()] if following else rest


def commands(text: str) -> list[str]:
    """The command lines in a Markdown text, those of its sentences (`python ..`) too, without comments."""
    lines = [line for block in code_blocks(text) for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", _BLOCK.sub("", text))
    stripped = [re.sub(r"\s+#.*", "", line).strip() for line in lines]
    return [line for line in stripped if line.startswith(_PROGRAMS)]


def example(heading: str) -> str:
    """The code of an example in docs/extending.md."""
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    (code,) = code_blocks(section(text, heading), "python")
    return code


def imported_example(heading: str, name: str, folder, monkeypatch) -> ModuleType:
    """The code of an example in docs/extending.md as a module outside the project, forgotten after the test."""
    (folder / f"{name}.py").write_text(example(heading), encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    importlib.invalidate_caches()
    monkeypatch.setitem(sys.modules, name, None)  # noted as absent, so that it is absent again after the test
    del sys.modules[name]
    return importlib.import_module(name)
