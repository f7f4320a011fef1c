"""Files that somebody made to do harm."""

import json
import os
import shutil
from pathlib import Path

import pytest

from models.lm.language_model import load_language_model, load_tokenizer
from models.settings import PretrainedSettings
from utils.errors import UserError


class Evil:
    """Unpickled, it runs a command that makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


@pytest.fixture
def evil(tmp_path):
    """A pickled command; the test fails when it has run."""
    marker = tmp_path / "ran"
    yield Evil(marker)
    assert not marker.exists()


@pytest.fixture
def refused(survived):
    """refused(call, *arguments): the one line of the UserError that a call ends in."""

    def run(call, *arguments, **options):
        with pytest.raises(UserError) as caught:
            call(*arguments, **options)
        message = str(caught.value)
        assert "\n" not in message
        assert message.isprintable()
        survived("bad inputs")
        return message

    return run


class ModelFolder:
    """A copy of a tiny LM's folder that a test changes."""

    def __init__(self, folder: Path, refused) -> None:
        self.folder, self.refused = folder, refused
        self.settings = PretrainedSettings(model_name=str(folder))

    def change(self, name: str, **values) -> None:
        """Set keys of one of its JSON files."""
        path = self.folder / name
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        path.write_text(json.dumps(content | values), encoding="utf-8")

    def load(self):
        """The LM and its tokenizer."""
        return load_language_model(self.settings), load_tokenizer(self.settings)

    def fault(self) -> str:
        """Why the LM is refused."""
        return self.refused(load_language_model, self.settings)

    def tokenizer_fault(self) -> str:
        """Why the tokenizer is refused."""
        return self.refused(load_tokenizer, self.settings)


@pytest.fixture
def model_folder(lm_folder, tmp_path, refused) -> ModelFolder:
    """The folder of a tiny LM that somebody else has changed."""
    return ModelFolder(Path(shutil.copytree(lm_folder("opt"), tmp_path / "lm")), refused)
