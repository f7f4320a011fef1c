"""What `make lint` checks the types of, and where it may not."""

import re

import pytest

from tests.test_floors import FILES, FLOORS, ROOT, SCRIPTS
from tests.test_packaging import tomllib

WITH_REASON = re.compile(r"# type: ignore\[[a-z, -]+\]")


def test_all_packages_and_scripts_are_checked():
    """A package that is not listed has as many errors as it likes, and `make lint` says that there is none."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mypy"]
    assert tuple(settings["packages"]) == FLOORS
    # utils/doctor.py is a script, too, and lies in a package
    assert sorted(settings["modules"]) == [script.stem for script in SCRIPTS if script.parent == ROOT]


@pytest.mark.parametrize("path", [*FILES, *SCRIPTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_not_checked_has_a_reason(path):
    """A bare `type: ignore` also hides the errors that come later, and nobody knows whether it may go."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        if "type: ignore" in line:
            assert WITH_REASON.search(line), line
            assert before.strip().startswith("#"), f"no comment says why before: {line.strip()}"
