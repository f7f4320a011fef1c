"""Collecting feedback: what is there is not asked again, and nothing of it is lost or mixed."""

import json
import signal
from functools import partial

import pytest

from companions.lamp import feedback
from companions.lamp.feedback import collect_item_feedback, collect_retriever_feedback
from companions.lamp.item_feedback import feedback_files, read_feedback
from companions.lamp.lm.generate import Answerer
from companions.lamp.lm.settings import ItemFeedbackConfig, RetrieverFeedbackConfig
from tests.companions.lamp.golden import GOLDEN
from tests.kills import Moment, run_job, run_killed
from utils.distributed import DistributedContext
from utils.errors import UserError, run_main

MERGED = GOLDEN / "2_merge" / "LaMP-3.bm25.json"
MODEL = {"model_name": str(GOLDEN / "models" / "t5-tiny")}


def config(**data):
    """Item feedback on two items of each profile."""
    keys = {"task": "LaMP-3", "train": str(MERGED), "profile_size": 2, "max_length": 64, **data}
    return ItemFeedbackConfig(model=MODEL, dataset=keys, generation={"max_length": 12})


def rows(folder):
    """Every row of a folder, by question and item."""
    lines = [
        json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()
    ]
    found = {(row["question"], row.get("item")): row for row in lines}
    assert len(found) == len(lines), "a row came twice"
    return found


@pytest.fixture(scope="module")
def whole(distributed, tmp_path_factory):
    """Feedback that was collected at one go."""
    folder = tmp_path_factory.mktemp("whole")
    collect_item_feedback(config(), folder, distributed)
    return rows(folder)


@pytest.fixture
def asked(monkeypatch):
    """How many prompts the LM is asked."""
    count = []
    answers = Answerer.batches

    def counted(self, examples):
        count.append(len(examples))
        return answers(self, examples)

    monkeypatch.setattr(Answerer, "batches", counted)
    return count


def test_an_interrupted_collection_goes_on(whole, distributed, tmp_path, asked):
    """A cut line taken for a row, or for the end: an item without feedback, or hours of work done again."""
    collect_item_feedback(config(end_index=5), tmp_path, distributed)
    (path,) = tmp_path.glob("*.jsonl")
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"{") + 9])  # the crash has cut the last row
    collect_item_feedback(config(), tmp_path, distributed)
    assert asked == [5, len(whole) - 4]
    assert rows(tmp_path).keys() == whole.keys()
    for key, row in rows(tmp_path).items():
        assert row["metrics"] == pytest.approx(whole[key]["metrics"], abs=1e-4)


@pytest.mark.long
def test_a_collection_survives_kills_at_any_moment(whole, distributed, tmp_path, survived):
    """Half a million rows, of which one is lost, doubled or cut wherever the machine failed."""
    collect = partial(collect_item_feedback, config(), tmp_path, distributed)
    keep = "companions.lamp.feedback:Appender.add"
    batches = "companions.lamp.lm.generate:Answerer._ask"
    settings = Moment("dataset.row_files:write_whole", after=True)
    for moment in (settings, Moment(batches), Moment(keep), Moment(keep, after=True)):
        ending = run_killed(collect, moment)
        assert ending.killed, ending.printed
        survived("kills")
    run_job(collect)
    assert rows(tmp_path).keys() == whole.keys()
    for key, row in rows(tmp_path).items():
        assert row["metrics"] == pytest.approx(whole[key]["metrics"], abs=1e-4)


def test_whoever_ends_a_collection_is_told_how_it_goes_on(distributed, tmp_path):
    """A scheduler's SIGTERM without a word: the collection is begun again in another folder."""
    collect = partial(collect_item_feedback, config(), tmp_path, distributed)
    moment = Moment("companions.lamp.feedback:Appender.add", after=True, signal=signal.SIGTERM)
    ending = run_killed(lambda: run_main(collect), moment)
    assert ending.status == 143
    line = f"terminated: what is done is kept in {tmp_path}: the same command goes on from there"
    assert ending.printed.splitlines()[-1] == line
    assert rows(tmp_path)


def test_nothing_is_loaded_when_all_is_there(whole, distributed, tmp_path, monkeypatch):
    """A pipeline that asks again would load gigabytes for nothing."""
    collect_item_feedback(config(), tmp_path, distributed)
    monkeypatch.setattr(feedback, "ready_lm", lambda *_: pytest.fail("the LM was loaded"))
    collect_item_feedback(config(), tmp_path, distributed)
    assert rows(tmp_path).keys() == whole.keys()


def test_ranks_share_the_work(whole, tmp_path, monkeypatch, distributed):
    """A pair that two ranks score is paid for twice; one that none scores is missing."""
    monkeypatch.setattr(DistributedContext, "gather", lambda self, value: [value])
    for rank in range(3):
        context = DistributedContext(rank, rank, 3, distributed.device)
        collect_item_feedback(config(), tmp_path / str(rank), context)
    shares = [rows(tmp_path / str(rank)) for rank in range(3)]
    assert sum(map(len, shares)) == len(whole)
    assert set().union(*shares) == whole.keys()
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_ropg_reads_it(whole, distributed, tmp_path):
    """Feedback in a form of its own could not be trained on."""
    collect_item_feedback(config(), tmp_path, distributed)
    found = dict(pair for path in feedback_files(tmp_path) for pair in read_feedback(path))
    assert found == {f"{question}-{item}": row["metrics"] for (question, item), row in whole.items()}


@pytest.mark.parametrize(
    ("change", "words"),
    [({"max_length": 48}, "dataset.max_length = 64, not 48"), ({"task": "LaMP-4"}, "dataset.task")],
)
def test_other_settings_are_refused(distributed, tmp_path, change, words):
    """Rows of two settings in one folder: the retriever is trained on a mixture, and nothing says so."""
    collect_item_feedback(config(end_index=2), tmp_path, distributed)
    with pytest.raises(UserError, match=words):
        collect_item_feedback(config(**change), tmp_path, distributed)


def test_prompts_without_their_question_are_counted(distributed, tmp_path, capsys):
    """The LM is asked about half a question, and the retriever learns from what it makes of that."""
    collect_item_feedback(config(end_index=3, max_length=24), tmp_path, distributed)
    assert "3 prompts were cut to 24 tokens: their end, the question, is lost" in capsys.readouterr().out


def test_two_processes_do_not_write_one_file(distributed, tmp_path):
    """Two writers of one file mix their lines."""
    collect_item_feedback(config(end_index=2), tmp_path, distributed)
    with (
        feedback.Appender(tmp_path / "scores_0_-1.0.jsonl"),
        pytest.raises(UserError, match="another process"),
    ):
        collect_item_feedback(config(), tmp_path, distributed)


def test_a_faulty_row_is_named(distributed, tmp_path):
    """A row that cannot be read would be collected again, beside it."""
    collect_item_feedback(config(end_index=2), tmp_path, distributed)
    (path,) = tmp_path.glob("*.jsonl")
    path.write_text('{"question": "1"}\n' + path.read_text())
    with pytest.raises(UserError, match=rf"{path.name}:1: 'item' is missing"):
        collect_item_feedback(config(), tmp_path, distributed)


def test_a_question_without_output_is_refused(distributed, tmp_path):
    """Test questions have no outputs: their feedback would be that of empty ones."""
    record = {"id": "1", "input": "review: x", "profile": [{"id": "2", "text": "y", "score": "1"}]}
    (tmp_path / "merged.json").write_text(json.dumps([record]))
    with pytest.raises(UserError, match="question '1': field 'output' is missing"):
        collect_item_feedback(config(train=str(tmp_path / "merged.json")), tmp_path / "out", distributed)


def test_retriever_feedback_in_the_benchmarks_form(distributed, tmp_path):
    """RSPG reads scores.json: a question left out of it has no label."""
    data = {"task": "LaMP-3", "data": str(MERGED), "max_length": 64, "use_profile": True, "is_ranked": True}
    settings = RetrieverFeedbackConfig(model=MODEL, dataset=data, generation={"max_length": 12})
    for _ in range(2):
        collect_retriever_feedback(settings, tmp_path, distributed)
        scores = json.loads((tmp_path / "scores.json").read_text("utf-8"))
        assert list(scores) == [question["id"] for question in json.loads(MERGED.read_text("utf-8"))]
        for value in scores.values():
            assert value.keys() == {"metric", "output", "input"}
            assert value["metric"].keys() == {"loss", "mae", "rmse"}
