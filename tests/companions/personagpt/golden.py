"""The golden cases of PersonaGPT: numbers of the release and of a corrected computation, see their README.md."""

import json
import os
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

GOLDEN = Path(os.environ.get("PERSONAGPT_GOLDEN_DIR") or ROOT / "tests" / "golden" / "personagpt")


def cases(part: str, pattern: str) -> list[Path]:
    """The files or folders of one part that fit a pattern, in the order of their names."""
    return sorted((GOLDEN / part).glob(pattern))


def content(path: Path) -> Any:
    """What a JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8"))
