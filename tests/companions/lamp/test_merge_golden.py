"""Merged files of the golden cases."""

import json
import re

import pytest

from companions.lamp.json_stream import write_object
from companions.lamp.merge import merge
from tests.companions.lamp.golden import GOLDEN, cases, load
from utils.errors import UserError

MERGED = [case for case in cases("2_merge/*.json") if re.match(r"LaMP-\d+\.", case.values[0].name)]


def files_of(task):
    """The questions and the outputs of a task."""
    return GOLDEN / "data" / task / "questions.json", GOLDEN / "data" / task / "outputs.json"


def test_there_are_cases():
    """An empty folder would pass the test below."""
    assert len(MERGED) >= 4


@pytest.mark.parametrize("name", MERGED)
def test_the_merged_files(name, tmp_path):
    """Every later step reads them: an item out of place, or another question's output, would go through all of them."""
    task, ranker = name.stem.split(".", 1)
    ranking = None
    if ranker != "file_order":
        ranking = tmp_path / "ranking.json"
        write_object(ranking, load(f"1_ranking/{task}.{ranker}.json")["ranking"].items())
    merge(*files_of(task), ranking, tmp_path / "merged.json")
    assert json.loads((tmp_path / "merged.json").read_text("utf-8")) == load(name)


def test_a_partial_ranking(tmp_path):
    """Items that the ranking leaves out are dropped, and ids of no item are passed over, as the release does."""
    ranking = GOLDEN / "2_merge" / "partial_ranking.input.json"
    counts = merge(*files_of("LaMP-3"), ranking, tmp_path / "merged.json")
    merged = json.loads((tmp_path / "merged.json").read_text("utf-8"))
    assert merged == load("2_merge/partial_ranking.merged.json")
    items = [len(question["profile"]) for question in load("data/LaMP-3/questions.json")]
    kept = sum(len(question["profile"]) for question in merged)
    ranked = sum(map(len, load("2_merge/partial_ranking.input.json").values()))
    assert counts == {"questions": len(items), "items": sum(items) - kept, "ids": ranked - kept}


@pytest.mark.parametrize("fact", ["missing_gold", "missing_first_gold"])
def test_a_missing_gold(fact, tmp_path):
    """The release gives the question the output of the one before, and trains on it."""
    question = load("2_merge/facts.json")[fact]["id"]
    outputs = load("data/LaMP-3/outputs.json")
    outputs["golds"] = [gold for gold in outputs["golds"] if gold["id"] != question]
    (tmp_path / "outputs.json").write_text(json.dumps(outputs), "utf-8")
    with pytest.raises(
        UserError, match=f"questions.json: question '{question}': it has no output in .*outputs.json"
    ):
        merge(files_of("LaMP-3")[0], tmp_path / "outputs.json", None, tmp_path / "merged.json")
    assert not (tmp_path / "merged.json").exists()


def test_of_two_golds_the_first_counts(tmp_path):
    """The other choice would train on outputs that the release never saw."""
    assert load("2_merge/facts.json")["duplicate_gold_first_wins"]
    golds = load("data/LaMP-3/outputs.json")["golds"]
    (tmp_path / "outputs.json").write_text(
        json.dumps([*golds, *({**gold, "output": "9"} for gold in golds)]), "utf-8"
    )  # an array alone is accepted too
    merge(files_of("LaMP-3")[0], tmp_path / "outputs.json", None, tmp_path / "merged.json")
    merged = json.loads((tmp_path / "merged.json").read_text("utf-8"))
    assert merged == load("2_merge/LaMP-3.file_order.json")
