"""The data of RSPG: made from feedback on every strategy, and read strictly."""

import json

import pytest

from companions.lamp.rspg.building import build_data
from companions.lamp.rspg.create_data import parser
from companions.lamp.rspg.data import read_rows
from companions.lamp.tasks import task_of
from utils.errors import UserError

RATINGS, TEXTS = task_of("LaMP-3"), task_of("LaMP-4")
IDS = ("a", "b", "c")


def write(path, content):
    """The path of a JSON file."""
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def made(tmp_path):
    """made(changes, metric, names): the rows made of three questions under two strategies; `changes` by file."""
    questions = [{"id": name, "input": f"review: {name}", "profile": [], "user_id": "u"} for name in IDS]
    golds = [{"id": name, "output": str(number)} for number, name in enumerate(reversed(IDS), start=3)]
    feedback = {
        strategy: {
            name: {
                "metric": {"mae": number + place, "loss": 0.5},
                "output": f"{strategy} {name}",
                "input": f"prompt {strategy} {name}",
            }
            for number, name in enumerate(order)
        }
        for place, (strategy, order) in enumerate((("none", IDS), ("bm25", IDS[::-1])))
    }

    def make(change=lambda content: None, metric="mae", names=(), out="data.json"):
        content = json.loads(json.dumps({"questions": questions, "golds": golds, **feedback}))
        change(content)
        for name in ("none", "bm25"):
            (tmp_path / name).mkdir(exist_ok=True)
            write(tmp_path / name / "scores.json", content[name])
            (tmp_path / name / "scores.0.jsonl").write_text("{}\n", encoding="utf-8")
        paths = [write(tmp_path / f"{name}.json", content[name]) for name in ("questions", "golds")]
        folders = [tmp_path / name for name in ("none", "bm25")]
        build_data(folders, *paths, metric, tmp_path / out, names)
        return json.loads((tmp_path / out).read_text(encoding="utf-8"))

    return make


def test_each_strategy_has_its_own_place(made, tmp_path):
    """Files are in different orders: walking them side by side gives a question another one's output."""
    rows = made()
    assert [row["id"] for row in rows] == list(IDS)
    assert rows[0] == {
        "id": "a",
        "input": "review: a",
        "user_id": "u",
        "gold": "5",
        "labels": [0, 3],
        "outputs": ["none a", "bm25 a"],
        "inputs": ["prompt none a", "prompt bm25 a"],
        "strategies": ["none", "bm25"],
        "metric": "mae",
    }
    read = list(read_rows(str(tmp_path / "data.json"), RATINGS))
    # the vectors of the specification: (w - mae) / w
    assert [row.utilities for row in read] == [(1.0, 0.25), (2 / 3, 1 / 3), (0.0, 0.5)]
    assert made(names=["x", "y"])[0]["strategies"] == ["x", "y"]


def test_the_bare_array_of_golds(made):
    """The official object and the array alone are both in use."""
    golds = made(lambda content: content.update(golds={"task": "LaMP_3", "golds": content["golds"]}))
    assert golds == made()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda content: content["golds"].pop(0),
            r"questions.json: question 'c': it has no output in .*golds",
        ),
        (lambda content: content["bm25"].pop("b"), "question 'b': no feedback in .*bm25/scores.json"),
        (
            lambda content: content["bm25"].update(d=content["bm25"]["a"]),
            r"bm25/scores.json: feedback on 'd' \(1 in all\), which is no question of .*questions.json",
        ),
        (
            lambda content: content["none"]["b"]["metric"].pop("mae"),
            r"none/scores.json: question 'b': no metric 'mae'.*\(it has loss\)",
        ),
        (lambda content: content["none"]["b"].pop("output"), "question 'b': field 'output' is None"),
        (lambda content: content["none"].update(a=3), "question 'a': expected an object with metric"),
    ],
)
def test_what_does_not_fit_is_told(made, tmp_path, change, message):
    """The original gives a question without gold that of the one before it."""
    made()
    before = (tmp_path / "data.json").read_bytes()
    with pytest.raises(UserError, match=message):
        made(change)
    assert (tmp_path / "data.json").read_bytes() == before
    assert not list(tmp_path.glob(".part*"))


def test_metrics_and_names(made):
    """The original's page names a metric that does not exist."""
    with pytest.raises(UserError, match="no metric 'maee'; did you mean 'mae'"):
        made(metric="maee")
    with pytest.raises(UserError, match="--names: 1 names of 2 strategies"):
        made(names=["x"])
    with pytest.raises(UserError, match="2 strategies are called 'x'"):
        made(names=["x", "x"])


def test_labels_that_cannot_be_learnt_from(made, tmp_path):
    """The scorer would learn to choose the highest loss."""
    made(metric="loss")
    with pytest.raises(UserError, match="question 'a': its labels are 'loss'.*--metric mae"):
        list(read_rows(str(tmp_path / "data.json"), RATINGS))
    made()
    with pytest.raises(UserError, match="its labels are 'mae'.*--metric rouge-1"):
        list(read_rows(str(tmp_path / "data.json"), TEXTS))


ROW = {"id": "a", "gold": "x", "labels": [0.5, 1], "outputs": ["o", "p"], "inputs": ["i", "j"]}


def test_files_of_the_original(tmp_path):
    """They do not name their strategies."""
    (row,) = read_rows(str(write(tmp_path / "rows.json", [ROW])), TEXTS)
    assert (row.strategies, row.utilities, row.prompts, row.outputs) == (
        ("0", "1"),
        (0.5, 1.0),
        ("i", "j"),
        ("o", "p"),
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "rows.json: no questions"),
        ([3], "question 1: expected an object with the text 'id'"),
        ([ROW, ROW], "question 'a': field 'id': an earlier question has it too"),
        ([ROW | {"gold": 3}], "field 'gold' is 3, expected a text"),
        ([ROW | {"labels": []}], "field 'labels' is .*, expected a list of numbers"),
        ([ROW | {"labels": [1, True]}], "field 'labels', 2: True among the numbers"),
        ([ROW | {"outputs": ["o"]}], "2 labels, 2 inputs, 1 outputs, 2 strategies"),
        ([ROW | {"strategies": ["s", "s"]}], "field 'strategies': a name is given twice"),
        ([ROW, ROW | {"id": "b", "strategies": ["s", "t"]}], "question 'b': its strategies are s, t, those"),
        ([{key: ROW[key] for key in ROW if key != "inputs"}], "field 'inputs' is missing"),
    ],
)
def test_mistakes_are_told_by_question(tmp_path, rows, message):
    """A column that is one shorter shifts every later strategy."""
    with pytest.raises(UserError, match=message):
        list(read_rows(str(write(tmp_path / "rows.json", rows)), TEXTS))


def test_a_gold_that_is_no_rating(tmp_path):
    """Its largest error is not known, so neither is the utility."""
    path = write(tmp_path / "rows.json", [ROW | {"gold": "9"}])
    with pytest.raises(UserError, match="question 'a': field 'labels' .*'9' is no rating"):
        list(read_rows(str(path), RATINGS))


def test_flags_of_create_data():
    """Both names of the list of folders are in use."""
    rest = "--task_inputs_addr q --task_outputs_addr o --output_dataset_addr d --metric mae".split()
    for flag in ("--retrivers_data_addr", "-names-list"):
        args = parser().parse_args([flag, "a", "b", *rest])
        assert [path.name for path in args.feedback] == ["a", "b"]
