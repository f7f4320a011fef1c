"""Evaluation over windows and ranks gives what one window of one rank gives."""

import json
import threading
from types import SimpleNamespace

import pytest
import torch

from companions.lamp.lm import evaluate
from companions.lamp.lm.examples import Example
from companions.lamp.lm.generate import Answer
from companions.lamp.tasks import task_of
from tests.companions.lamp.test_rankings import ALONE, Rank

COUNT = 7
GOLDS = ["a warm day", "the ferry leaves the harbour at noon", *["bread and roses for all of us"] * 4, "rain"]


def ask(numbers, advance):
    """An answer to each; some of them are right."""
    for number in numbers:
        text = GOLDS[number] if number % 3 else f"the ferry {number}"
        yield Example(str(number), None, "", GOLDS[number], [], [1, 2], False), Answer(text, number / 8, 2)


def evaluated(folder, distributed):
    """Results and predictions of one process."""
    folder.mkdir(exist_ok=True)
    reader = SimpleNamespace(
        task=task_of("LaMP-4"), data=SimpleNamespace(max_length=8), tell=lambda distributed: None
    )
    return evaluate.evaluate_questions(
        iter(range(COUNT)), ask, reader, "questions", distributed, folder, "eval"
    )


@pytest.mark.parametrize("size", [1, 2, 3])
def test_windows_and_ranks_change_nothing(tmp_path, monkeypatch, size):
    """Predictions under the ids of other questions, or BLEU as a mean of parts: figures of another experiment."""
    wanted = evaluated(tmp_path / "wanted", ALONE)
    monkeypatch.setattr(evaluate, "WINDOW", 2)
    monkeypatch.setattr(Rank, "shared", [None] * size, raising=False)
    monkeypatch.setattr(Rank, "meeting", threading.Barrier(size, timeout=60), raising=False)
    found = []
    ranks = [Rank(rank, rank, size, torch.device("cpu")) for rank in range(size)]
    threads = [
        threading.Thread(target=lambda rank=rank: found.append(evaluated(tmp_path / "found", rank)))
        for rank in ranks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [pytest.approx(wanted)] * size
    files = [tmp_path / name / evaluate.PREDICTIONS for name in ("wanted", "found")]
    assert files[0].read_text() == files[1].read_text()
    assert [row["id"] for row in json.loads(files[0].read_text())["golds"]] == list(map(str, range(COUNT)))
    assert 10 < wanted["eval_bleu"] < 90
    assert wanted["eval_loss"] == pytest.approx(sum(range(COUNT)) / 8 / COUNT)
