"""What the usual tools make of pyproject.toml: dependencies, and nothing of the project in anybody's environment."""

import shutil
import subprocess
import sys
import zipfile

import pytest
from packaging.requirements import Requirement

from tests.conftest import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:  # a dependency of pytest there
    import tomli as tomllib

BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, sys.argv[1])(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def project():
    """The content of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@pytest.mark.parametrize("kind", ["build_wheel", "build_editable"])
def test_pip_install_gives_the_dependencies_alone(project, tmp_path, kind):
    """It failed on "multiple top-level packages"; with them found, `import utils` would be ours for everybody."""
    copy = tmp_path / "project"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "train.py", "test.py"):
        shutil.copy(ROOT / name, copy)
    for folder in ("companions", "config", "data_file", "dataset", "models", "tests", "trainer", "utils"):
        (copy / folder).mkdir()
        (copy / folder / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-c", BUILD, kind, str(tmp_path)], cwd=copy, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / done.stdout.splitlines()[-1]) as wheel:
        code = [name for name in wheel.namelist() if ".dist-info/" not in name]
        (metadata,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        lines = wheel.read(metadata).decode().splitlines()
        # an editable install has a finder, which finds nothing
        assert all(name.startswith("__editable__") for name in code)
        assert all(b" = {}\n" in wheel.read(name) for name in code if name.endswith(".py"))
        assert not any(str(copy).encode() in wheel.read(name) for name in code)
    found = {
        Requirement(line.partition(": ")[2]).name for line in lines if line.startswith("Requires-Dist: ")
    }
    extras = project["project"]["optional-dependencies"].values()
    stated = [*project["project"]["dependencies"], *(name for extra in extras for name in extra)]
    assert found == {Requirement(line).name for line in stated}
    assert "Name: spt" in lines


def test_the_pinned_versions_are_within_the_ranges(project):
    """`make install` and `pip install .` that disagree: only one of them has been tested."""
    pinned = {}
    for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines():
        requirement = Requirement(line) if line and not line.startswith("#") else None
        if requirement is not None and (requirement.marker is None or requirement.marker.evaluate()):
            (version,) = requirement.specifier
            pinned[requirement.name.lower().replace("_", "-")] = version.version
    for line in project["project"]["dependencies"]:
        requirement = Requirement(line)
        version = pinned[requirement.name.lower().replace("_", "-")]
        assert requirement.specifier.contains(version), line
