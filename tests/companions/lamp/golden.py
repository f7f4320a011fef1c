"""The golden cases of LaMP: numbers that the benchmark's own code computed (their README says how)."""

import json
import os
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

GOLDEN = Path(os.environ.get("LAMP_GOLDEN_DIR") or ROOT / "tests" / "golden" / "lamp").resolve()
ENCODER = GOLDEN / "models" / "bert-tiny"


def golden(name: str) -> Any:
    """The content of a JSON file, by its path in the folder."""
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


def cases(pattern: str) -> list[str]:
    """The paths of the files that match, in the folder, so that cases of the same form run without a change."""
    return sorted(str(path.relative_to(GOLDEN)) for path in GOLDEN.glob(pattern))
