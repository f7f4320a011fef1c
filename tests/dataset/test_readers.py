"""Readers by name. That one of another module trains and decodes: tests/test_extensions.py."""

import pytest

from dataset import readers
from dataset.readers import read_dialogues, register_reader
from models.configuration import build_config
from models.lm.base_lm import train_tokenizer
from tests.documents import imported_example
from tests.helpers import as_tab_separated
from utils.errors import UserError


@pytest.fixture
def own_names(monkeypatch):
    """Readers that a test registers are gone after it."""
    monkeypatch.setattr(readers, "_READERS", dict(readers._READERS))


@pytest.fixture
def tab_separated(own_names, monkeypatch, tmp_path):
    """The reader of docs/extending.md, which lies outside the project."""
    module = imported_example("## A reader", "reader_of_a_test", tmp_path, monkeypatch)
    register_reader("tab_separated", module.read_tab_separated)


def test_a_base_lm_learns_its_tokens_from_any_format(tab_separated, data, tmp_path):
    """A tokenizer that read the file as ConvAI2 would end the run, or learn from line numbers."""
    own = tmp_path / "own.tsv"
    own.write_text(as_tab_separated(data["train"]), encoding="utf-8")
    init = {"architecture": "opt", "hidden_size": 16, "num_layers": 1, "num_heads": 2}
    init |= {"vocab_size": 400, "max_positions": 64}
    vocabularies = []
    for dataset in ({"train": str(own), "format": "tab_separated"}, {"train": str(data["train"])}):
        settings = {"model": {"model_type": "language_model", "init": init}, "dataset": dataset}
        vocabularies.append(train_tokenizer(build_config([("test", settings)])).get_vocab())
    assert vocabularies[0] == vocabularies[1]


def test_a_fault_of_a_dialogue_is_named_whatever_the_reader(tab_separated, tmp_path):
    """Each new reader would have to think of speakers that do not take turns, and one would forget."""
    path = tmp_path / "own.tsv"
    path.write_text("partner\thi\nself\thello\nself\tthere\n", encoding="utf-8")
    with pytest.raises(
        UserError, match=r"own\.tsv:3: utterances\[2\]\.speaker: 'self' speaks twice in a row"
    ):
        read_dialogues(path, "tab_separated")
    register_reader("finds_nothing", lambda path: [])
    with pytest.raises(UserError, match=r"own\.tsv: the reader 'finds_nothing' finds no dialogue in it"):
        read_dialogues(path, "finds_nothing")


@pytest.mark.parametrize("name", ["convai2", "json_lines"])
def test_a_taken_name_is_refused(own_names, name):
    """Whichever module is imported last would read the file, and the run folder would not tell."""
    with pytest.raises(ValueError, match=f"dialogue reader '{name}' is registered twice"):
        register_reader(name, lambda path: [])


@pytest.mark.parametrize(("name", "hint"), [("convai", "convai2"), ("jsonlines", "json_lines")])
def test_an_unknown_format_names_the_nearest(tmp_path, name, hint):
    """A message without the names sends the user into the source."""
    with pytest.raises(UserError, match=rf"^dataset\.format = '{name}'; did you mean '{hint}'\?$"):
        read_dialogues(tmp_path / "none.txt", name)
