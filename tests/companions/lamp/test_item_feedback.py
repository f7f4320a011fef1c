"""Feedback on profile items, in both of its forms."""

import json

import pytest

from companions.lamp.item_feedback import feedback_files, read_feedback
from utils.errors import UserError

METRICS = {"accuracy": 1.0, "f1": 0.5}


def test_both_forms_say_the_same(tmp_path):
    """Feedback collected by one program would not serve the other."""
    (tmp_path / "scores_0_2.json").write_text(json.dumps({"q-1-a": METRICS}), encoding="utf-8")
    line = json.dumps({"question": "q-1", "item": "a", "metrics": METRICS})
    (tmp_path / "scores.jsonl").write_text(f"{line}\n\n", encoding="utf-8")
    (tmp_path / "settings.json").write_text("[]", encoding="utf-8")
    files = feedback_files(tmp_path)
    assert [path.name for path in files] == ["scores.jsonl", "scores_0_2.json"]
    assert [list(read_feedback(path)) for path in files] == [[("q-1-a", METRICS)]] * 2
    assert feedback_files(files[0]) == files[:1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("scores.json", '{"a-b": 3}', r"scores.json: 'a-b': expected an object of metrics, found 3"),
        ("scores.json", "[]", "scores.json:1: "),
        (
            "scores.jsonl",
            "{}\n",
            r"scores.jsonl:1: expected an object with question, item \(texts\) and metrics",
        ),
        (
            "scores.jsonl",
            '\n{"question": 1, "item": "a"}\n',
            "scores.jsonl:2: expected an object with question",
        ),
        ("scores.jsonl", '{"question": "q", "item": "a"}\n', "scores.jsonl:1: expected an object of metrics"),
        (
            "scores.jsonl",
            '{"question": "q", "question": "r"}\n',
            "scores.jsonl:1: not JSON that can be read: key 'question'",
        ),
        ("scores.jsonl", "{\n", "scores.jsonl:1: not JSON"),
        ("scores.jsonl", "[" * 100_000 + "\n", "scores.jsonl:1: nested too deeply"),
    ],
)
def test_a_faulty_file_is_told_by_its_place(tmp_path, name, content, message):
    """Among half a million lines nobody finds the one that a traceback does not name."""
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        list(read_feedback(path))


def test_a_folder_without_feedback_and_a_file_that_is_not_there(tmp_path):
    """Training on no feedback at all would begin."""
    with pytest.raises(UserError, match="no feedback here"):
        feedback_files(tmp_path)
    with pytest.raises(UserError, match="feedback not found"):
        feedback_files(tmp_path / "none.json")
