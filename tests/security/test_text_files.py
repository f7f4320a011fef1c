"""Files of text from somebody else: settings, dialogues, results, action codes, LaMP's files."""

import json
import os
from pathlib import Path

import pytest

from companions.lamp import item_feedback, json_stream
from companions.lamp.metrics import OutputError, compare
from companions.lamp.questions import read_outputs, read_questions
from companions.lamp.tasks import task_of
from companions.personagpt.action_files import text_pairs
from dataset import row_files
from dataset.readers import read_dialogues
from models.configuration import load_config
from models.decoding.evaluate import Result, evaluate_runs, format_csv, read_examples
from models.decoding.results import decoding_of
from trainer.ds_config import read_ds_config
from utils.config.strict_yaml import read_yaml
from utils.errors import UserError, existing_file, printable
from utils.untrusted import LARGEST_TEXT

READERS = {
    "config.yml": read_yaml,
    "ds_config.json": read_ds_config,
    "dialogues.txt": lambda path: read_dialogues(path, "convai2"),
    "dialogues.jsonl": lambda path: read_dialogues(path, "json_lines"),
    "evaluation_result.jsonl": read_examples,
    "actions.csv": text_pairs,
    "actions.jsonl": text_pairs,
    "questions.json": lambda path: list(read_questions(path, None)),
    "outputs.json": lambda path: list(read_outputs(path, None)),
    "scores.json": lambda path: list(item_feedback.read_feedback(path)),
    "scores.jsonl": lambda path: list(item_feedback.read_feedback(path)),
    "rows.jsonl": lambda path: list(row_files.rows_of(path)),
}
WHOLE = [
    name
    for name in READERS
    if name not in ("questions.json", "outputs.json", "scores.json", "scores.jsonl", "rows.jsonl")
]
ESCAPE = "\x1b]0;owned\x07\x1b[2J"


@pytest.mark.parametrize("name", READERS)
def test_pipes_and_devices_are_refused(tmp_path, refused, name):
    """Opening a pipe waits for ever; /dev/zero has no end."""
    os.mkfifo(tmp_path / name)
    assert "no plain file" in refused(READERS[name], tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    assert "no plain file" in refused(READERS[name], tmp_path / name)


@pytest.mark.parametrize("name", WHOLE)
def test_files_that_are_read_whole_have_a_limit(tmp_path, refused, name):
    """A sparse file of a terabyte takes no disk, and all of the memory."""
    with (tmp_path / name).open("wb") as file:
        file.truncate(LARGEST_TEXT + 1)
    assert "has more than" in refused(READERS[name], tmp_path / name)


@pytest.mark.parametrize("name", ["questions.json", "rows.jsonl", "scores.jsonl"])
def test_one_element_has_a_limit(tmp_path, refused, monkeypatch, name):
    """A file that is read an element at a time may be of any size, and one element of it may not."""
    for module in (json_stream, row_files, item_feedback):
        monkeypatch.setattr(module, "LARGEST_LINE", 1 << 16)
    monkeypatch.setattr(json_stream, "_CHUNK", 1 << 12)
    content = json.dumps({"id": "1", "input": "x" * (1 << 18)})
    (tmp_path / name).write_text(f"[{content}]" if name.endswith(".json") else content + "\n")
    refused(READERS[name], tmp_path / name)


@pytest.mark.parametrize(
    "name",
    ["ds_config.json", "dialogues.jsonl", "evaluation_result.jsonl", "actions.jsonl", *list(READERS)[7:]],
)
@pytest.mark.parametrize(
    "content",
    ["[" * 200_000, '{"a":' * 200_000, '{"a": ' + "1" * 10_000_000 + "}"],
    ids=["list", "object", "number"],
)
def test_json_bombs_are_one_line(tmp_path, refused, name, content):
    """Brackets without end overflow the stack, and a number of ten million digits takes hours to read."""
    (tmp_path / name).write_text(content + "\n")
    refused(READERS[name], tmp_path / name)


@pytest.mark.parametrize(
    "text",
    [
        "model: !!python/object/apply:os.system ['touch ran']",
        "model: !!python/name:os.system",
        "a: &a [x, x, x, x, x, x, x, x]\n"
        + "".join(
            f"{c}: &{c} [{', '.join(['*' + b] * 9)}]\n" for b, c in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "model: " + "[" * 100_000,
        'dataset: {train: "a\\0b"}',
        "model: " + "1" * 10_000,
    ],
    ids=["command", "name", "aliases", "nested", "null", "digits"],
)
def test_yaml_is_data(tmp_path, refused, monkeypatch, text):
    """YAML can name functions to call, and a few lines of aliases can stand for gigabytes."""
    monkeypatch.chdir(tmp_path)
    Path("config.yml").write_text(text)
    refused(load_config, "config.yml")
    assert os.listdir() == ["config.yml"]


def test_names_of_files_hold_no_control_characters_in_messages(tmp_path, refused):
    """A name of a file that is printed as it stands sends its escape sequences to the terminal."""
    assert "\\x1b" in refused(existing_file, tmp_path / ESCAPE, "dialogue file")


def test_text_on_the_screen_holds_no_escape_sequences(tmp_path, capsys):
    """A folder's name or a reply that holds such a sequence hides lines, or writes others in their place."""
    run = tmp_path / f"run{ESCAPE}"
    run.mkdir()
    (run / "evaluation_result.jsonl").write_text(json.dumps({"prediction": ESCAPE, "target": "a"}) + "\n")
    (run / "evaluation_result_old.txt").write_text("")
    evaluate_runs(tmp_path, ["f1"])
    shown = "".join(capsys.readouterr())
    assert "owned" in shown
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert printable(f"שלום\n\tb\r{ESCAPE}\x9b1m") == "שלום\n\tb\\r\\x1b]0;owned\\x07\\x1b[2J\\x9b1m"


def test_a_chat_shows_no_escape_sequences(tmp_path, capsys, monkeypatch):
    """An LM's reply may be any bytes, those of an escape sequence too."""
    from models.decoding.shell import converse_in_terminal

    class Talk:
        prompt, is_over = "you> ", False

        def opening(self):
            return [f"persona: {ESCAPE}"]

        def answer(self, line):
            return [f"bot> {ESCAPE}"]

    lines = iter(["hi"])
    converse_in_terminal(Talk(), tmp_path, lambda prompt: next(lines, "exit"))
    shown = capsys.readouterr().out
    assert shown.count("owned") == 2
    assert "\x1b" not in shown


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)"])
def test_a_table_for_spreadsheets_holds_no_formulas(name):
    """A spreadsheet computes a cell that begins with `=`, and a formula can open addresses."""
    row = format_csv([Result(name, "evaluation_result.jsonl", {}, 1)], []).splitlines()[1]
    assert row.startswith(f"'{name}")


def test_texts_that_are_compared_have_a_limit(tmp_path, refused):
    """ROUGE-L makes a table of words times words: two texts of 100 kB take tens of gigabytes."""
    long = "a " * 50_000
    path = tmp_path / "evaluation_result.jsonl"
    path.write_text(json.dumps({"prediction": long, "target": long}) + "\n")
    assert f"{path}, line 1: 'prediction' and 'target'" in refused(read_examples, path)
    with pytest.raises(OutputError, match="too long to be compared"):
        compare(task_of("LaMP_4"), [long], [long])


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a": ' + "1" * 10_000 + "}", "\x1b[2J", ""])
def test_the_text_twin_of_a_result_file(tmp_path, content):
    """What test.py reads of it to know whether it is done may be anybody's."""
    (tmp_path / "evaluation_result.txt").write_text(f"bleu: 1\nselected prompts: {{}}\ndecoding: {content}\n")
    assert decoding_of(tmp_path / "evaluation_result.txt") == {}


def test_action_codes_are_text(tmp_path):
    """Neither a formula nor a quote in a CSV file is more than text."""
    path = tmp_path / "actions.csv"
    path.write_text('context,response\n"=cmd()","__import__(""os"")"\n')
    (pair,) = text_pairs(path)
    assert (pair.context, pair.response) == ("=cmd()", '__import__("os")')
    path.write_text('context,response\n"' + "x" * 200_000 + '",y\n')
    with pytest.raises(UserError, match="not CSV"):
        text_pairs(path)
