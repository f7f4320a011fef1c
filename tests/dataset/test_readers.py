"""A reader of another format is one module and one call; nothing else in the project is touched."""

import importlib
import sys

import pytest

from dataset import readers
from dataset.readers import read_dialogues, register_reader
from models.configuration import build_config
from models.lm.base_lm import train_tokenizer
from tests.helpers import logged
from trainer.training import train
from utils.errors import UserError

MODULE = '''
"""Dialogues as `KIND<TAB>TEXT`, KIND one of persona, partner, self; a blank line ends a dialogue."""

from dataset.dialogue import SELF, Dialogue, Utterance
from dataset.lines import text_lines
from dataset.readers import register_reader
from utils.errors import UserError


def read_tab_separated(path):
    """The dialogues of the file, in its order."""
    dialogues, persona, utterances = [], [], []
    for number, line in enumerate([*text_lines(path), ""], start=1):
        if line:
            kind, tab, text = line.partition("\\t")
            if not tab:
                raise UserError(f"{path}:{number}: expected KIND<TAB>TEXT, found {line[:40]!r}")
            if kind == "persona":
                persona.append(text)
            else:
                utterances.append(Utterance(kind, text, line=number))
        elif utterances:
            dialogues.append(Dialogue(tuple(utterances), {SELF: tuple(persona)}, str(path)))
            persona, utterances = [], []
    return dialogues


register_reader("tab_separated", read_tab_separated)
'''


@pytest.fixture
def own_names(monkeypatch):
    """Readers that a test registers are gone after it."""
    monkeypatch.setattr(readers, "_READERS", dict(readers._READERS))


@pytest.fixture
def tab_separated(own_names, monkeypatch, tmp_path):
    """Import a module from outside the project that registers the reader `tab_separated`."""
    (tmp_path / "reader_of_a_test.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("reader_of_a_test")
    yield
    del sys.modules[module.__name__]


def _tab_separated(path):
    """A ConvAI2 file in the format of the test's module."""
    blocks = []
    for dialogue in read_dialogues(path, "convai2"):
        rows = [f"persona\t{line}" for line in dialogue.persona]
        rows += [f"{utterance.speaker}\t{utterance.text}" for utterance in dialogue.utterances]
        blocks.append("\n".join(rows))
    return "\n\n".join(blocks) + "\n"


def test_a_reader_of_another_module_trains(tab_separated, data, make_config, distributed, tmp_path):
    """The README promises a new format for one module and one call; a second place to touch breaks the promise."""
    files = {}
    for name, path in data.items():
        files[name] = str(tmp_path / f"{name}.tsv")
        (tmp_path / f"{name}.tsv").write_text(_tab_separated(path), encoding="utf-8")
    quick = {"training_ratio": 0.2}
    run = train(
        make_config(dataset={"format": "tab_separated", **files}, training=quick),
        distributed,
        "tab_separated",
    )
    expected = train(make_config(training=quick), distributed, "convai2")
    for phase in ("train_epoch", "valid_epoch"):
        totals = [row["total"] for row in logged(run, phase)]
        assert totals == [row["total"] for row in logged(expected, phase)] != []


def test_a_base_lm_learns_its_tokens_from_any_format(tab_separated, data, tmp_path):
    """A tokenizer that read the file as ConvAI2 would end the run, or learn from line numbers."""
    own = tmp_path / "own.tsv"
    own.write_text(_tab_separated(data["train"]), encoding="utf-8")
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
    path.write_text("persona\ti ski.\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"own\.tsv: the reader 'tab_separated' finds no dialogue in it"):
        read_dialogues(path, "tab_separated")


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
