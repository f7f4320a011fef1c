"""Memory of feedback and evaluation: that of a window of prompts, however many questions there are."""

import tracemalloc

import pytest

from companions.lamp import feedback, json_stream
from companions.lamp.json_stream import write_array
from companions.lamp.lm import evaluate
from companions.lamp.lm.generate import Answer, Answerer
from companions.lamp.lm.settings import EvaluationConfig, ItemFeedbackConfig
from tests.companions.lamp.golden import GOLDEN
from tests.companions.lamp.made_files import questions

MODEL = {"model_name": str(GOLDEN / "models" / "t5-tiny")}
_OUTPUT = "a headline of some length that says little " * 20


def collected(path, folder, distributed):
    """Feedback on items, whose rows go to the disk."""
    data = {"task": "LaMP-3", "train": path, "max_length": 32}
    feedback.collect_item_feedback(ItemFeedbackConfig(model=MODEL, dataset=data), folder, distributed)


def evaluated(path, folder, distributed):
    """Predictions and metrics."""
    data = {"task": "LaMP-3", "valid": path, "max_length": 32}
    evaluate.evaluate(EvaluationConfig(model=MODEL, dataset=data), folder, distributed)


@pytest.mark.parametrize("work", [collected, evaluated])
def test_memory_does_not_grow_with_the_questions(tmp_path, monkeypatch, distributed, work):
    """Outputs that are kept until the end: a file of 20,000 questions and items ends with no memory after hours."""
    monkeypatch.setattr(json_stream, "_CHUNK", 1 << 12)
    monkeypatch.setattr(feedback, "WINDOW", 32)
    monkeypatch.setattr(evaluate, "WINDOW", 32)

    def answers(self, examples):
        yield {number: Answer(f"{_OUTPUT}{number}", 1.0, 2) for number in range(len(examples))}

    monkeypatch.setattr(Answerer, "batches", answers)
    peaks = []
    for count in (10, 100, 1000):  # the first run imports
        path = tmp_path / f"{count}.json"
        write_array(path, ({**row, "output": "4"} for row in questions(count, items=1, words=4)))
        tracemalloc.start()
        work(str(path), tmp_path / str(count), distributed)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # the ids are held, to find one that comes twice; an output alone has 900 bytes
    assert peaks[2] < peaks[1] + 900 * 300, peaks
