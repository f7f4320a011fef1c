"""The benchmark's files, read strictly."""

import json

import pytest

from companions.lamp.questions import read_outputs, read_questions, write_outputs
from companions.lamp.tasks import task_of
from tests.companions.lamp.golden import GOLDEN, cases, load
from utils.errors import UserError

ITEM = {"id": "30", "text": "x", "title": "t", "date": "2012"}
QUESTION = {"id": "3", "input": "article: y", "profile": [ITEM], "user_id": 7}
TASK = task_of("LaMP-4")


@pytest.fixture
def file(tmp_path):
    """Writes a value as a JSON file and gives its path."""

    def write(value):
        path = tmp_path / "file.json"
        path.write_text(json.dumps(value))
        return path

    return write


@pytest.mark.parametrize("path", cases("data/*/questions.json"))
def test_golden_questions_are_read_whole(path):
    """A field that reading drops is missing from the merged file, and a hard text that it refuses stops the run."""
    task = task_of(path.parent.name)
    questions = list(read_questions(GOLDEN / path, task))
    assert [question.record for question in questions] == load(path)
    outputs = dict(read_outputs(GOLDEN / path.with_name("outputs.json"), task))
    assert set(outputs) == {question.id for question in questions}


def test_user_based_questions_have_neither_dates_nor_users(file):
    """Half of the benchmark would be refused."""
    item = {key: value for key, value in ITEM.items() if key != "date"}
    (question,) = read_questions(file([{"id": "3", "input": "y", "profile": [item]}]), TASK)
    assert question.user is None
    assert question.profile == (item,)


def test_merged_questions_have_their_output(file):
    """Training on questions without golds would fail hours later, at the first of them."""
    path = file([{**QUESTION, "output": "gold"}, {**QUESTION, "id": "4"}])
    first, second = read_questions(path, TASK)
    assert (first.output, second.output, first.user) == ("gold", None, "7")
    with pytest.raises(UserError, match="question '4': field 'output' is missing; merge"):
        list(read_questions(path, TASK, need_output=True))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"id": 3}, "question 1: field 'id' is 3, expected a text"),
        ({"input": None}, "question '3': field 'input' is None, expected a text"),
        ({"profile": {}}, "question '3': field 'profile' is {}, expected an array of items"),
        ({"user_id": [1]}, "question '3': field 'user_id' is [1], expected a text or a whole number"),
        ({"output": 4}, "question '3': field 'output' is 4, expected a text"),
        ({"input": "\ud800"}, "question '3': field 'input' holds half a character (a lone surrogate)"),
        ({"profile": ["x"]}, "question '3', profile item 1: expected an object, found 'x'"),
        ({"profile": [{"text": "x"}]}, "question '3', profile item 1: field 'id' is missing (a text)"),
        (
            {"profile": [{**ITEM, "title": 5}]},
            "question '3', profile item 1 ('30'): field 'title' is 5, expected a text",
        ),
        (
            {"profile": [{"id": "30", "title": "t"}]},
            "question '3', profile item 1 ('30'): field 'text' is missing (a text)",
        ),
        (
            {"profile": [{**ITEM, "date": 2012.5}]},
            "question '3', profile item 1 ('30'): field 'date' is 2012.5, expected a text or a whole number",
        ),
        (
            {"profile": [ITEM, ITEM]},
            "question '3', profile item '30': field 'id': an earlier item has it too",
        ),
    ],
)
def test_a_wrong_field_is_named_with_its_question(file, wrong, message):
    """In 20,000 questions a mistake without an id is looked for by hand."""
    path = file([{**QUESTION, **wrong}])
    with pytest.raises(UserError) as caught:
        list(read_questions(path, TASK))
    assert str(caught.value) == f"{path}: {message}"


def test_questions_with_one_id(file):
    """A ranking keeps one of them, and the other is answered with the first one's profile."""
    path = file([QUESTION, QUESTION])
    with pytest.raises(UserError, match="question '3': field 'id': an earlier question has it too"):
        list(read_questions(path, TASK))
    with pytest.raises(UserError, match="question 1: expected an object, found 'x'"):
        list(read_questions(file(["x"]), TASK))


def test_both_shapes_of_outputs(file):
    """The benchmark's own object made the release's merge fail."""
    golds = [{"id": "1", "output": "a"}, {"id": "0", "output": "b"}, {"id": "1", "output": "c"}]
    for content in (golds, {"task": "LaMP_4", "golds": golds}, {"task": "LaMP-4", "golds": golds}):
        for task in (TASK, None):
            assert list(read_outputs(file(content), task)) == [("1", "a"), ("0", "b"), ("1", "c")]
    rating = [{"id": "1", "output": 4}, {"id": "2", "output": 2.5}]
    assert dict(read_outputs(file(rating), task_of("LaMP_3"))) == {"1": "4", "2": "2.5"}
    assert dict(read_outputs(file(rating), None)) == {"1": "4", "2": "2.5"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"task": "LaMP_5", "golds": []}, ": field 'task' is 'LaMP_5', expected LaMP_4"),
        ({"task": "LaMP_9", "golds": []}, ": field 'task': unknown task 'LaMP_9'; did you mean"),
        ({"golds": []}, ": field 'task' is missing"),
        ({"task": "LaMP_4"}, ": field 'golds' is missing, or empty"),
        ({"task": 4, "golds": []}, ": field 'task' is 4, expected a text"),
        ({"task": "LaMP_4", "golds": {}}, ":1: expected '[' ('golds' is an array), found '{'"),
        (["x"], ": output 1: expected an object with id and output, found 'x'"),
        ([{"id": "7", "output": 3}], ": output of '7': field 'output' is 3, expected a text"),
        ([{"output": "x"}], ": output 1: field 'id' is missing (a text)"),
    ],
)
def test_wrong_outputs(file, content, message):
    """Predictions of another task would be scored with this one's metric."""
    with pytest.raises(UserError) as caught:
        list(read_outputs(file(content), TASK))
    assert message in str(caught.value)


def test_written_outputs_have_the_benchmarks_form(tmp_path):
    """The leaderboard refuses another one."""
    path = tmp_path / "predictions.json"
    write_outputs(path, TASK, [("0", "é"), ("1", "")])
    assert json.loads(path.read_text("utf-8")) == {
        "task": "LaMP_4",
        "golds": [{"id": "0", "output": "é"}, {"id": "1", "output": ""}],
    }
    assert dict(read_outputs(path, TASK)) == {"0": "é", "1": ""}
    with pytest.raises(UserError, match="question '0' has several outputs"):
        write_outputs(path, TASK, [("0", "a"), ("0", "b")])
