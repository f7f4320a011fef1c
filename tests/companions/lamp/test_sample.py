"""The sample of LaMP: it can be made again, and the rating of a question stands in the right item alone."""

import json
import random
from pathlib import Path

import pytest
import torch

from companions.lamp.questions import read_outputs, read_questions
from companions.lamp.rankings import rank_file, read_rankings
from companions.lamp.sample import generate
from companions.lamp.tasks import TASKS
from utils.distributed import DistributedContext

TASK = TASKS["LaMP_3"]
ALONE = DistributedContext(rank=0, local_rank=0, size=1, device=torch.device("cpu"))


def test_files_are_what_the_generator_makes():
    """Files edited by hand are lost the next time that somebody runs the generator."""
    random.seed(99)  # state from elsewhere must not count
    files = generate.texts()
    for name, text in files.items():
        assert (generate.FOLDER / name).read_bytes() == text.encode()
    assert {path.name for path in generate.FOLDER.glob("*.json")} == set(files)
    assert sum(map(len, files.values())) < 300_000, "everybody who clones the project loads them"


@pytest.mark.parametrize("split", ["train", "dev"])
def test_exactly_one_item_has_the_gold_rating(split):
    """With the rating in other items too, an LM that is given a wrong one would be right, and retrieval idle."""
    golds = dict(read_outputs(generate.FOLDER / f"{split}_outputs.json", TASK))
    questions = list(read_questions(generate.FOLDER / f"{split}_questions.json", TASK))
    assert set(golds) == {question.id for question in questions}
    for question in questions:
        assert [item["score"] for item in question.profile].count(golds[question.id]) == 1


def share_found(ranker: str, folder: Path) -> float:
    """How often a ranker's first item is the right one, of the development questions."""
    questions = generate.FOLDER / "dev_questions.json"
    rank_file(questions, folder / "ranking.json", TASK, ranker, ALONE)
    first = {question: items[0] for question, items in read_rankings(folder / "ranking.json")}
    golds = json.loads((generate.FOLDER / "dev_outputs.json").read_text())["golds"]
    scores = {
        question.id: {item["id"]: item["score"] for item in question.profile}
        for question in read_questions(questions, TASK)
    }
    found = [scores[gold["id"]][first[gold["id"]]] == gold["output"] for gold in golds]
    return sum(found) / len(found)


def test_words_and_dates_lead_to_the_right_item_sometimes(tmp_path):
    """With a BM25 that is always right there would be nothing to learn; with one that never is, nothing to see."""
    bm25, recency, chance = (share_found(name, tmp_path) for name in ("bm25", "recency", "random"))
    assert 0.4 < bm25 < 0.7
    assert chance < recency < bm25
