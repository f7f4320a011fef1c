"""The configuration files of PersonaGPT: valid, and launched as their first line says."""

import shlex

import pytest

from companions.personagpt import register_personagpt
from companions.personagpt.arguments import learn_parser
from companions.personagpt.chain import read_chain
from models.arguments import read_train_arguments
from tests.conftest import ROOT

FILES = sorted((ROOT / "config" / "personagpt").glob("*.yml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_launched_by_its_first_line(path, monkeypatch):
    """A launch line that names another file, or a key that is gone, is found by the first user otherwise."""
    monkeypatch.chdir(ROOT)
    register_personagpt()
    program, *words = shlex.split(path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# "))
    assert program == "python"
    name = str(path.relative_to(ROOT))
    if words[1] == "companions.personagpt.learn":
        assert learn_parser().parse_args(words[2:]).config == name
        words = ["-m", "companions.personagpt.train", f"--config={name}", "--set=model.model_name=LM"]
        words += ["--set=dataset.actions=corrections.jsonl"]
    assert f"--config={name}" in words
    if words[0] == "train.py":
        _, config = read_train_arguments(words[1:])
        assert config.model.model_type == "language_model"
    else:
        assert words[:2] == ["-m", "companions.personagpt.train"]
        assert all(link.config.model.model_type == "personagpt" for link in read_chain(words[2:]))
