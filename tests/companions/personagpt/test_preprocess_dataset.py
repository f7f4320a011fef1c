"""The command preprocess_dataset: three files and a report, or one line about what is wrong."""

import json
import subprocess
import sys

import pytest

from companions.personagpt.prepared import read_persona_examples
from companions.personagpt.preprocess_dataset import main
from companions.personagpt.settings import PersonaConfig
from tests.companions.personagpt.golden import GOLDEN
from tests.conftest import ROOT
from utils.errors import UserError

PREPROCESS = GOLDEN / "preprocess"
CONFIG = PersonaConfig(model={"model_type": "personagpt", "model_name": "none"})


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """What the command prints, line by line; files go to `tmp_path/out`."""

    def run(*arguments, train=PREPROCESS / "edge.txt"):
        files = [
            "--train",
            str(train),
            "--valid",
            str(PREPROCESS / "dialogues.txt"),
            "--out",
            str(tmp_path / "out"),
        ]
        monkeypatch.setattr(sys, "argv", ["preprocess_dataset", *files, *arguments])
        main()
        return capsys.readouterr().out.splitlines()

    return run


def test_files_and_report(run, tmp_path):
    """A count that is wrong, or a file that the training cannot read, would be noticed after hours of it."""
    actions = str(PREPROCESS / "active_learning_data.csv")
    lines = run("--actions", actions, "--set", f"model.model_name={GOLDEN / 'lm'}")
    assert lines == [
        "train_data.jsonl: 12 dialogues (2 discarded), 74 examples (44 duplicates and 0 turns beyond the cap left "
        "out), the longest of 301 tokens",
        "valid_data.jsonl: 12 dialogues (0 discarded), 190 examples (0 duplicates and 6 turns beyond the cap left "
        "out), the longest of 328 tokens",
        "active_data.jsonl: 32 examples of 11 goals, the longest of 124 tokens",
    ]
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "active_data.jsonl",
        "train_data.jsonl",
        "valid_data.jsonl",
    ]
    for line in (out / "active_data.jsonl").read_text(encoding="utf-8").splitlines():
        assert set(json.loads(line)) == {"context", "response", "goal"}
    assert len(read_persona_examples(str(out / "train_data.jsonl"), CONFIG)) == 74


def test_settings_come_from_the_command_line(run, tmp_path):
    """Prepared under other settings than those asked for, the data would be refused by the training."""
    lines = run("--set", "dataset.max_utterances=4", "--set", "model.fidelity=released_code")
    assert lines[0].startswith("length in tokens not counted: microsoft/DialoGPT-medium is no folder")
    assert lines[1].startswith("train_data.jsonl: 12 dialogues (1 discarded), 42 examples (0 duplicates")
    header = (tmp_path / "out" / "train_data.jsonl").read_text(encoding="utf-8").splitlines()[0]
    assert json.loads(header) == {
        "personagpt": 1,
        "max_utterances": 4,
        "drop_duplicates": True,
        "fidelity": "released_code",
    }


def test_settings_come_from_a_file(run, tmp_path):
    """The configuration of the training would be one, and that of its data another."""
    file = tmp_path / "config.yml"
    file.write_text(
        "model: {model_type: personagpt, model_name: none}\ndataset: {max_utterances: 4}\n", encoding="utf-8"
    )
    assert "190 examples" not in run("--config", str(file))[2]
    file.write_text("model: {model_type: language_model}\n", encoding="utf-8")
    with pytest.raises(UserError, match="model.model_type = 'language_model': 'personagpt' is needed"):
        run("--config", str(file))


def test_nothing_is_written_where_a_file_is_wrong(run, tmp_path):
    """New training data beside old action data would look like one preparation."""
    wrong = tmp_path / "actions.csv"
    wrong.write_text("context,response\n<|axt|>,b\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"actions\.csv:2: context: unknown special token"):
        run("--actions", str(wrong))
    assert not (tmp_path / "out").exists()
    run()
    with pytest.raises(UserError, match=r"train_data\.jsonl: the file is prepared already"):
        run(train=tmp_path / "out" / "train_data.jsonl")


@pytest.mark.slow
def test_a_mistake_is_one_line(tmp_path):
    """A traceback tells the user nothing that can be fixed."""
    words = [sys.executable, "-m", "companions.personagpt.preprocess_dataset", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [*words, "--train", "none.txt"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "error: dialogue file not found: none.txt\n"
