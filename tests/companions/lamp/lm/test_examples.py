"""Prompts as an LM reads them: those that lack their profile are told, and marked in feedback."""

import json

import pytest

from companions.lamp.feedback import collect_item_feedback
from companions.lamp.lm.evaluate import evaluate
from companions.lamp.lm.settings import EvaluationConfig, ItemFeedbackConfig
from tests.companions.lamp.golden import GOLDEN

MODEL = {"model_name": str(GOLDEN / "models" / "t5-tiny")}
SAID = "1 prompts are the question alone: their profile items do not fit into 32 tokens"


@pytest.fixture
def merged(tmp_path):
    """Two questions of LaMP-4, each with an item, of which one has a title that takes the whole prompt."""
    items = [{"id": "a", "title": "warm oven", "text": "x"}, {"id": "b", "title": "oven " * 90, "text": "x"}]
    rows = [
        {"id": str(number), "input": "article: sea", "profile": [item], "output": "sea"}
        for number, item in enumerate(items)
    ]
    (tmp_path / "merged.json").write_text(json.dumps(rows))
    return str(tmp_path / "merged.json")


def test_feedback_on_an_item_that_does_not_fit_is_marked(merged, tmp_path, distributed, capsys):
    """The LM's answer to the question alone would stand among the feedback as what the item is worth."""
    data = {"task": "LaMP-4", "train": merged, "max_length": 32}
    config = ItemFeedbackConfig(model=MODEL, dataset=data, generation={"max_length": 4})
    collect_item_feedback(config, tmp_path / "feedback", distributed)
    (path,) = (tmp_path / "feedback").glob("*.jsonl")
    rows = {row["item"]: row for row in map(json.loads, path.read_text().splitlines())}
    assert rows["b"]["without_profile"] is True
    assert "without_profile" not in rows["a"]
    assert capsys.readouterr().out.count(SAID) == 1


@pytest.mark.parametrize("use_profile", [True, False])
def test_questions_whose_profile_does_not_fit_are_told_of(merged, tmp_path, distributed, capsys, use_profile):
    """Results with a profile that was never read would be taken for those of retrieval."""
    data = {
        "task": "LaMP-4",
        "valid": merged,
        "max_length": 32,
        "use_profile": use_profile,
        "is_ranked": True,
    }
    config = EvaluationConfig(model=MODEL, dataset=data, generation={"max_length": 4})
    evaluate(config, tmp_path / "results", distributed)
    assert capsys.readouterr().out.count(SAID) == use_profile
