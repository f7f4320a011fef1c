"""Merging: questions without golds, files that do not belong together, and memory."""

import json
import tracemalloc

import pytest

from companions.lamp import json_stream
from companions.lamp.json_stream import write_object
from companions.lamp.merge import merge
from tests.companions.lamp.made_files import questions, write_outputs, write_questions
from utils.errors import UserError


@pytest.fixture
def paths(tmp_path):
    """Questions, outputs, ranking (backwards) and the merged file to be."""
    rows = list(questions(3, items=4))
    ranking = tmp_path / "ranking.json"
    write_object(ranking, ((row["id"], [item["id"] for item in row["profile"]][::-1]) for row in rows))
    return (
        write_questions(tmp_path / "questions.json", 3, 4),
        write_outputs(tmp_path / "outputs.json", 3),
        ranking,
        tmp_path / "merged.json",
    )


def test_questions_without_golds_get_no_output(paths):
    """The test split has none: an empty or borrowed output would be scored as a gold."""
    path, _, ranking, merged = paths
    merge(path, None, ranking, merged)
    expected = [{**row, "profile": row["profile"][::-1]} for row in questions(3, items=4)]
    assert json.loads(merged.read_text("utf-8")) == expected


def test_other_fields_and_numbers_stay_as_they_are(tmp_path):
    """What a later step needs, such as `user_id`, would be lost in the merge."""
    row = {
        "id": "1",
        "input": "x",
        "profile": [{"id": "a", "more": [1.5, None, 10**30]}],
        "user_id": 7,
        "z": {"k": "\u2028\n"},
    }
    (tmp_path / "q.json").write_text(json.dumps([row]), "utf-8")
    (tmp_path / "o.json").write_text('{"task": "LaMP_4", "golds": [{"id": "1", "output": "y"}]}', "utf-8")
    merge(tmp_path / "q.json", tmp_path / "o.json", None, tmp_path / "m.json")
    assert json.loads((tmp_path / "m.json").read_text("utf-8")) == [{**row, "output": "y"}]


def test_a_ranking_of_other_questions_is_refused(paths):
    """Merged with it, the questions would have no profile, and be trained as if their users had none."""
    path, outputs, ranking, merged = paths
    merged.write_text("earlier", "utf-8")
    write_object(ranking, [("0", []), ("2", [])])
    with pytest.raises(UserError) as caught:
        merge(path, outputs, ranking, merged)
    assert str(caught.value) == f"{path}: question '1': it has no ranking in {ranking}; rank this file"
    assert merged.read_text("utf-8") == "earlier"


def test_golds_of_other_questions_are_refused(paths):
    """The line says which file lacks what, and how a file without golds is merged."""
    path, outputs, ranking, merged = paths
    write_outputs(outputs, 2)
    with pytest.raises(UserError) as caught:
        merge(path, outputs, ranking, merged)
    assert str(caught.value) == (
        f"{path}: question '2': it has no output in {outputs}; merge questions without golds with "
        '--lamp_output_addr ""'
    )
    assert not merged.exists()


def test_memory_does_not_grow_with_the_questions(tmp_path, monkeypatch):
    """Rankings of 20,000 questions with 200 items are half a GB as Python's lists, the questions several."""
    monkeypatch.setattr(json_stream, "_CHUNK", 1 << 12)
    peaks = []
    for count in (10, 40, 400):  # the first run imports
        path = write_questions(tmp_path / "questions.json", count, items=20)
        ranking = tmp_path / "ranking.json"
        write_object(ranking, ((str(n), [f"{n}-{item}" for item in range(20)]) for n in range(count)))
        outputs = write_outputs(tmp_path / "outputs.json", count)
        tracemalloc.start()
        merge(path, outputs, ranking, tmp_path / "merged.json")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert path.stat().st_size > 1_000_000
    assert peaks[2] < peaks[1] + 200_000, peaks
