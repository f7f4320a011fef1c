"""The golden cases: numbers of the benchmark's release, in the project's copy or in `$LAMP_GOLDEN_DIR`."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

GOLDEN = Path(os.environ.get("LAMP_GOLDEN_DIR") or ROOT / "tests" / "golden" / "lamp").resolve()


def load(path: str | Path) -> Any:
    """The content of a JSON file, by its path from the folder of golden cases."""
    return json.loads((GOLDEN / path).read_text(encoding="utf-8"))


def cases(pattern: str) -> list[Any]:
    """The files that a pattern finds, as test parameters: their paths from the folder of golden cases."""
    found = sorted(path.relative_to(GOLDEN) for path in GOLDEN.glob(pattern))
    return [pytest.param(path, id=str(path)) for path in found]
