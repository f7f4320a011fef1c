"""Ranking a file: rankers by name, sharing among processes, memory, and mistakes in one line."""

import json
import pickle
import threading
import tracemalloc

import pytest
import torch

from companions.lamp import encoder, json_stream, rankings
from companions.lamp.rankers import RANKERS, RankerOptions
from companions.lamp.rankings import rank_file, read_rankings, shares, windows
from companions.lamp.tasks import task_of
from tests.companions.lamp.conftest import ENCODER
from tests.companions.lamp.made_files import questions, write_questions
from utils.distributed import DistributedContext
from utils.errors import UserError

TASK = task_of("LaMP-3")
ALONE = DistributedContext(rank=0, local_rank=0, size=1, device=torch.device("cpu"))


def options(**changes):
    """Those of the tiny encoder."""
    return RankerOptions(**{"encoder": str(ENCODER), **changes})


def ranked(path, ranker, distributed=ALONE, **more):
    """The ranking of a questions file."""
    rank_file(path, path.with_name("ranking.json"), TASK, ranker, distributed, options(), **more)
    return dict(read_rankings(path.with_name("ranking.json")))


class Rank(DistributedContext):
    """One of several processes, as a thread: what they exchange goes through a list."""

    shared: list
    meeting: threading.Barrier

    def gather(self, value):
        """Every rank's value, by rank."""
        # as between processes, where a function cannot be sent
        self.shared[self.rank] = pickle.loads(pickle.dumps(value))
        self.meeting.wait()
        values = list(self.shared)
        self.meeting.wait()
        return values


@pytest.mark.parametrize("ranker", RANKERS)
@pytest.mark.parametrize("size", [2, 3])
def test_ranks_share_the_work(tmp_path, monkeypatch, ranker, size):
    """A share that comes back in another order gives users the ranking of other users."""
    monkeypatch.setattr(rankings, "WINDOW", 12)
    path = write_questions(tmp_path / "questions.json", count=7, items=5)
    expected = ranked(path, ranker)
    assert list(expected) == [str(number) for number in range(7)]
    # two threads that load at once would leave the library unable to tie weights, for all tests that follow
    loaded = encoder.load_encoder(str(ENCODER), torch.device("cpu"))
    monkeypatch.setattr(encoder, "load_encoder", lambda *_: loaded)
    monkeypatch.setattr(Rank, "shared", [None] * size, raising=False)
    monkeypatch.setattr(Rank, "meeting", threading.Barrier(size, timeout=60), raising=False)
    output = tmp_path / "of_all.json"
    ranks = [
        threading.Thread(
            target=rank_file,
            args=(path, output, TASK, ranker, Rank(rank, rank, size, torch.device("cpu")), options()),
        )
        for rank in range(size)
    ]
    for thread in ranks:
        thread.start()
    for thread in ranks:
        thread.join()
    assert list(read_rankings(output)) == list(expected.items())


@pytest.mark.parametrize("ranker", RANKERS)
def test_a_ranking_is_of_the_whole_profile(tmp_path, ranker):
    """An item that a ranker loses is lost for every later step."""
    path = write_questions(tmp_path / "questions.json", count=3, items=6)
    for question, order in ranked(path, ranker).items():
        assert sorted(order) == [f"{question}-{item}" for item in range(6)]


def test_the_combined_ranker_takes_turns(tmp_path):
    """Its first two items are the best and the newest, which is what half a budget for each means."""
    path = write_questions(tmp_path / "questions.json", count=4, items=8)
    dense, recent, both = (ranked(path, ranker) for ranker in ("contriever", "recency", "recency_contriever"))
    for question, order in both.items():
        assert order[0] == dense[question][0]
        assert order[1] == next(item for item in recent[question] if item != order[0])


def test_the_random_ranker_is_seeded(tmp_path):
    """A second run could not be compared with the first."""
    path = write_questions(tmp_path / "questions.json", count=2, items=9)
    first = ranked(path, "random")
    assert ranked(path, "random") == first
    rank_file(path, tmp_path / "other.json", TASK, "random", ALONE, options(seed=1))
    assert dict(read_rankings(tmp_path / "other.json")) != first


def test_windows_are_cut_by_items_not_by_questions():
    """One user with a profile of thousands beside many small ones would need the memory of thousands of each."""
    asked = [(None, [""] * items) for items in (3, 3, 0, 1, 9, 2, 2)]
    found = [[len(ids) for _, ids in window] for window in windows(iter(asked), 6)]
    assert found == [[3, 3, 0], [1], [9], [2, 2]]


def test_questions_without_items_are_not_all_held():
    """Items alone would never fill a window of empty profiles: a file of them would be in memory as a whole."""
    assert [len(window) for window in windows(((None, []) for _ in range(7)), 3)] == [3, 3, 1]


def test_ranks_take_questions_in_a_row():
    """Dealt out in turn, the questions of one user would have every rank read that user's profile."""
    window = [(number, [""] * items) for number, items in enumerate((3, 3, 0, 9, 1, 1))]
    assert [[number for number, _ in part] for part in shares(window, 2)] == [[0, 1, 2, 3], [4, 5]]
    assert [[number for number, _ in part] for part in shares(window, 3)] == [[0, 1], [2, 3], [4, 5]]
    assert shares([], 2) == [[], []]


@pytest.mark.parametrize("ranker", ["recency", "bm25"])
def test_memory_does_not_grow_with_the_questions(tmp_path, monkeypatch, ranker):
    """The benchmark's largest file has 20,000 questions with 200 items each: several GB if it were held."""
    monkeypatch.setattr(json_stream, "_CHUNK", 1 << 12)
    monkeypatch.setattr(rankings, "WINDOW", 64)
    peaks = []
    for count in (10, 40, 400):  # the first run imports
        path = write_questions(tmp_path / f"{count}.json", count, items=20)
        tracemalloc.start()
        rank_file(path, tmp_path / "ranking.json", TASK, ranker, ALONE)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert path.stat().st_size > 1_000_000
    assert peaks[2] < peaks[1] + 200_000, peaks


def broken(change):
    """Two questions, the second of which was changed."""
    rows = list(questions(2, items=3))
    change(rows[1])
    return rows


MISTAKES = {
    "no date": (
        broken(lambda row: row["profile"][2].pop("date")),
        "recency",
        "question '1', profile item '1-2': field 'date' is missing",
    ),
    "odd date": (
        broken(lambda row: row["profile"][1].update(date="May 2012")),
        "recency_contriever",
        "question '1', profile item '1-1': field 'date' is 'May 2012'",
    ),
    "no marks": (
        broken(lambda row: row.update(input="what now")),
        "bm25",
        "question '1': field 'input' lacks the marks of LaMP-3, between which the query stands: 'what now'",
    ),
    "no text": (
        broken(lambda row: row["profile"][0].pop("text")),
        "random",
        "question '1', profile item 1 ('1-0'): field 'text' is missing",
    ),
    "unknown ranker": (broken(lambda row: None), "bm52", "unknown ranker 'bm52'; did you mean 'bm25'?"),
}


@pytest.mark.parametrize(("rows", "ranker", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_and_an_earlier_ranking_stays(tmp_path, rows, ranker, message):
    """Half a ranking under the name of a whole one would be merged, and the questions after it lost."""
    path = tmp_path / "questions.json"
    path.write_text(json.dumps(rows), "utf-8")
    (tmp_path / "ranking.json").write_text("earlier", "utf-8")
    with pytest.raises(UserError) as caught:
        ranked(path, ranker)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "ranking.json").read_text("utf-8") == "earlier"
    assert {entry.name for entry in tmp_path.iterdir()} == {"questions.json", "ranking.json"}


def test_dates_in_documents_are_asked_for(tmp_path):
    """Without its date an item would be ranked as if none had been asked for."""
    path = tmp_path / "questions.json"
    path.write_text(json.dumps(broken(lambda row: row["profile"][2].pop("date"))), "utf-8")
    assert len(ranked(path, "bm25")) == 2
    with pytest.raises(
        UserError, match="question '1', profile item '1-2': field 'date' is missing, which --use_date"
    ):
        ranked(path, "bm25", use_date=True)


def test_weights_that_are_no_numbers_rank_nothing(tmp_path, monkeypatch):
    """Every comparison with nan is false: the order would look like a ranking."""
    monkeypatch.setattr("companions.lamp.rankers.dense.DenseScorer.vectors", no_numbers)
    path = write_questions(tmp_path / "questions.json", count=1, items=2)
    with pytest.raises(
        UserError, match="the scores of question '0' are not finite: its weights hold no numbers"
    ):
        ranked(path, "contriever")


def no_numbers(scorer, texts):
    """Vectors of an encoder that diverged."""
    return torch.full((len(texts), 4), torch.nan), torch.arange(len(texts))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"1": ["a"], "2": "b"}', "question '2' has 'b', expected an array of item ids"),
        ('{"1": ["a", 2]}', "question '1' has ['a', 2], expected an array of item ids"),
        ('{"1": ["a", "b", "a"]}', "question '1' ranks item 'a' twice"),
        ('{"1": [], "1": []}', "key '1' is given twice"),
        ('[["a"]]', "ranking file is an object"),
    ],
)
def test_a_file_that_is_no_ranking(tmp_path, content, message):
    """Read as one, it would drop profiles without a word."""
    (tmp_path / "ranking.json").write_text(content, "utf-8")
    with pytest.raises(UserError) as caught:
        list(read_rankings(tmp_path / "ranking.json"))
    assert str(caught.value).startswith(str(tmp_path / "ranking.json"))
    assert message in str(caught.value)
