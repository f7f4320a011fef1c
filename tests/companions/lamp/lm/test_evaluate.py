"""Evaluation over windows and ranks gives what one window of one rank gives."""

import json
from functools import partial
from itertools import islice
from types import SimpleNamespace

import pytest

from companions.lamp.lm import evaluate
from companions.lamp.lm.examples import Example
from companions.lamp.lm.generate import Answer
from companions.lamp.tasks import task_of
from tests.companions.lamp.test_rankings import ALONE
from tests.kills import Moment, run_job, run_killed
from tests.ranks import on_ranks
from utils.errors import UserError

COUNT = 7
GOLDS = ["a warm day", "the ferry leaves the harbour at noon", *["bread and roses for all of us"] * 4, "rain"]


def ask(numbers):
    """An answer to each, in batches of two of which the later comes first; some of them are right."""
    stream = enumerate(numbers)
    while batch := dict(islice(stream, 2)):
        yield {place: answered(number) for place, number in reversed(batch.items())}


def answered(number):
    """A question with its answer."""
    text = GOLDS[number] if number % 3 else f"the ferry {number}"
    return Example(str(number), None, "", GOLDS[number], [], [1, 2], False), Answer(text, number / 8, 2)


def evaluated(folder, distributed, ask=ask, settings=None):
    """Results and predictions of one process."""
    folder.mkdir(exist_ok=True)
    reader = SimpleNamespace(task=task_of("LaMP-4"), data=SimpleNamespace(max_length=8))
    return evaluate.evaluate_questions(
        iter(range(COUNT)), ask, reader, "questions", distributed, folder, "eval", settings=settings
    )


@pytest.mark.parametrize("size", [1, 2, 3])
def test_windows_and_ranks_change_nothing(tmp_path, monkeypatch, size):
    """Predictions under the ids of other questions, or BLEU as a mean of parts: figures of another experiment."""
    wanted = evaluated(tmp_path / "wanted", ALONE)
    monkeypatch.setattr(evaluate, "WINDOW", 2)
    found = on_ranks(size, lambda distributed: evaluated(tmp_path / "found", distributed))
    assert found == [wanted] * size
    files = [tmp_path / name / evaluate.PREDICTIONS for name in ("wanted", "found")]
    assert files[0].read_text() == files[1].read_text()
    assert [row["id"] for row in json.loads(files[0].read_text())["golds"]] == list(map(str, range(COUNT)))
    assert 10 < wanted["eval_bleu"] < 90
    assert wanted["eval_loss"] == pytest.approx(sum(range(COUNT)) / 8 / COUNT)
    assert not (tmp_path / "found" / evaluate.ROWS).exists()


def failing_after(batches, numbers):
    """Answers that end early."""
    yield from islice(ask(numbers), batches)
    raise UserError("the machine is needed")


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 1), (1, 3)])
def test_an_interrupted_evaluation_goes_on(tmp_path, before, after):
    """Answers under other questions' ids, once another number of ranks takes what is left; or all are asked again."""
    wanted = evaluated(tmp_path / "wanted", ALONE)
    found, asked = tmp_path / "found", []

    with pytest.raises(UserError, match="the machine is needed"):
        on_ranks(before, lambda rank: evaluated(found, rank, partial(failing_after, 1), {"lm": 1}))
    assert not (found / evaluate.PREDICTIONS).exists()

    def one_by_one(numbers):
        for place, number in enumerate(numbers):
            asked.append(number)
            yield {place: answered(number)}

    again = on_ranks(after, lambda rank: evaluated(found, rank, one_by_one, {"lm": 1}))
    assert len(asked) == COUNT - 2 * before
    assert again == [wanted] * after
    files = [folder / evaluate.PREDICTIONS for folder in (tmp_path / "wanted", found)]
    assert files[0].read_text() == files[1].read_text()


@pytest.mark.parametrize("settings", [{"lm": 2}, None])
def test_answers_of_another_lm_are_not_taken(tmp_path, settings):
    """The predictions of an LM, half of which another one made."""
    with pytest.raises(UserError, match="the machine is needed"):
        evaluated(tmp_path / "found", ALONE, partial(failing_after, 1), {"lm": 1})
    with pytest.raises(UserError, match="the machine is needed"):
        evaluated(tmp_path / "found", ALONE, partial(failing_after, 0), settings)
    assert not list((tmp_path / "found" / evaluate.ROWS).glob("*.jsonl"))[0].read_bytes()


@pytest.mark.long
def test_an_evaluation_survives_kills_at_any_moment(tmp_path, survived):
    """The same where nothing was closed or said before the end."""
    wanted = evaluated(tmp_path / "wanted", ALONE)
    found, settings = tmp_path / "found", {"lm": 1}
    keep = "dataset.row_files:Appender.add"
    write = "companions.lamp.lm.evaluate:write_whole"
    for moment in (Moment(keep), Moment(keep, after=True), Moment(keep, 2, after=True), Moment(write)):
        ending = run_killed(partial(evaluated, found, ALONE, settings=settings), moment)
        assert ending.killed, ending.printed
        survived("kills")
    run_job(partial(evaluated, found, ALONE, settings=settings))
    for name in (evaluate.PREDICTIONS, evaluate.RESULTS):
        assert (found / name).read_bytes() == (tmp_path / "wanted" / name).read_bytes()
    assert wanted
