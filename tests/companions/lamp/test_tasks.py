"""The table of tasks: names, queries and documents."""

import pytest

from companions.lamp.tasks import TASKS, date_key, task_of
from tests.companions.lamp.golden import cases, load
from utils.errors import UserError

RANKINGS = cases("1_ranking/*.*.json")


def inputs_of(task):
    """The golden questions of a task by id, those that are run alone too."""
    ordinary = load(f"data/{task.option}/questions.json")
    edge = [case["question"] for case in load(f"data/{task.option}/edge_questions.json")]
    return {question["id"]: question for question in [*ordinary, *edge]}


@pytest.mark.parametrize("path", RANKINGS)
def test_queries_and_documents_are_those_of_the_release(path):
    """A query that keeps its instruction, or a document without its title, ranks by other words than the paper's."""
    golden = load(path)
    task = task_of(golden["task"])
    questions = inputs_of(task)
    for name, expected in golden.get("detail", {}).items():
        question = questions[name]
        assert task.query(question["input"]) == expected["query"]
        texts = [task.document_of(item, golden["use_date"]) for item in question["profile"]]
        assert texts == expected["documents"]
    for expected in golden["edge"]:
        text = questions[expected["id"]]["input"]
        if "query" in expected:
            assert (task.released_query or task.query)(text) == expected["query"]
            assert task.query(text) == expected.get("corrected_query", expected["query"])
        if expected["kind"] == "missing_marker":
            assert task.query(text) is None


def test_a_name_with_hyphen_or_underscore_is_one_task():
    """The command line has hyphens and the files underscores; a form that is unknown was scored as ROUGE."""
    for task in TASKS.values():
        assert task_of(task.name) is task_of(task.option) is task
    assert task_of("LaMP-2").option == "LaMP-2"
    assert task_of("LaMP_2_old") is task_of("LaMP-2-old")
    with pytest.raises(UserError, match="unknown task 'LaMP-8'; did you mean 'LaMP-"):
        task_of("LaMP-8")


def test_a_question_made_from_its_template_gives_back_what_is_searched():
    """A template and a query that disagree make own data whose questions find nothing."""
    filled = {"title": "t", "text": "x y", "abstract": "x y", "description": "x y"}
    for task in TASKS.values():
        text = task.question.format(first='a "b" c', second='d"', **filled)
        assert task.query(text) == ('a "b" c d"' if task.name == "LaMP_1" else "x y")


def test_the_date_follows_a_document_only_where_there_is_one():
    """User-based items have no date: an error there would keep half of the benchmark from being ranked."""
    task = task_of("LaMP-7")
    assert task.document_of({"text": "t", "date": 2014}, use_date=True) == "t date: 2014"
    assert task.document_of({"text": "t"}, use_date=True) == "t"


def test_dates_order_by_their_numbers():
    """As texts, 2012-10 would be older than 2012-9."""
    dates = ["2012-10", 2012, "2012-9", "2012-10-01", "2011-12-31"]
    assert sorted(dates, key=lambda date: date_key({"date": date})) == [
        "2011-12-31",
        2012,
        "2012-9",
        "2012-10",
        "2012-10-01",
    ]
    for wrong in ("May 2012", "", "2012-", "-5"):
        with pytest.raises(ValueError, match="'date' is .*; needed are numbers"):
            date_key({"date": wrong})
    with pytest.raises(ValueError, match="'date' is missing"):
        date_key({})
