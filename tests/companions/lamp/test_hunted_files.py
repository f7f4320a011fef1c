"""LaMP files that nobody wrote by hand: each reader parses them, or says in one line what is wrong and where."""

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from companions.lamp import json_stream
from companions.lamp.item_feedback import read_feedback
from companions.lamp.json_stream import Document, read_array, read_object, write_array, write_object
from companions.lamp.questions import read_outputs, read_questions
from companions.lamp.rankings import read_rankings
from companions.lamp.rspg.data import read_rows
from companions.lamp.tasks import task_of
from dataset.row_files import rows_of
from tests.hunted import files, judged, judged_file, texts, values, with_a_part_replaced
from utils.files import unique_keys

TASK = task_of("LaMP-2")
ITEM = {"id": "10", "description": "a ship", "tag": "comedy", "date": "2012-05-17"}
QUESTION = {
    "id": "1",
    "input": "Which tag? description: a \U0001f600 ship",
    "profile": [ITEM, {**ITEM, "id": "11"}],
}
QUESTIONS = json.dumps([QUESTION, {**QUESTION, "id": "2", "user_id": 7, "output": "comedy"}], indent=1)
OUTPUTS = json.dumps(
    {"task": "LaMP_2", "golds": [{"id": "1", "output": "comedy"}, {"id": "2", "output": 3}]}, indent=0
)
RANKING = '{"1": ["10", "11"],\n"2": []\n}'
FEEDBACK = '{"1-10": {"accuracy": 1.0},\n"1-11": {"accuracy": 0.0}}'
FEEDBACK_ROWS = '{"question": "1", "item": "10", "metrics": {"accuracy": 1.0}}\n' * 2
ROW = {
    "id": "1",
    "gold": "4",
    "inputs": ["a", "b"],
    "outputs": ["1", "2"],
    "labels": [1.0, 0],
    "strategies": ["x", "y"],
}
RSPG = json.dumps([ROW, {**ROW, "id": "2"}], indent=0)

READERS = {
    "questions": (QUESTIONS, lambda path: list(read_questions(path, TASK))),
    "outputs": (OUTPUTS, lambda path: list(read_outputs(path, TASK))),
    "outputs of any task": (OUTPUTS, lambda path: list(read_outputs(path, None))),
    "ranking": (RANKING, lambda path: list(read_rankings(path))),
    "feedback": (FEEDBACK, lambda path: list(read_feedback(path))),
    "RSPG data": (RSPG, lambda path: list(read_rows(str(path), task_of("LaMP-2")))),
    "RSPG data of ratings": (RSPG, lambda path: list(read_rows(str(path), task_of("LaMP-3")))),
}


@pytest.mark.parametrize("kind", READERS)
@given(data=st.data())
def test_files(tmp_path, survived, kind, data):
    """One faulty record in gigabytes of a benchmark's files ended hours of ranking with a traceback."""
    good, read = READERS[kind]
    judged_file(read, tmp_path / "a.json", data.draw(files(good)), by_line=False)
    survived("bad inputs")


@pytest.mark.parametrize("kind", READERS)
@given(data=st.data(), value=values)
def test_any_value_in_the_place_of_another(tmp_path, survived, kind, data, value):
    """Valid JSON of another form: a number in the place of a text, a list as a key, half a character as an id."""
    good, read = READERS[kind]
    changed = with_a_part_replaced(json.loads(good), value, data.draw(st.randoms(use_true_random=False)))
    judged_file(read, tmp_path / "a.json", json.dumps(changed).encode(), by_line=False)
    survived("bad inputs")


@pytest.mark.parametrize("label", [10**400, -(10**400), 1e308])
def test_a_label_that_no_float_holds(tmp_path, label):
    """JSON has integers of any length: one as a label was an OverflowError in the arithmetic of utilities."""
    (tmp_path / "a.json").write_text(json.dumps([{**ROW, "labels": [label, 0]}]), encoding="utf-8")
    for task in ("LaMP-2", "LaMP-3"):
        judged(
            lambda task=task: list(read_rows(str(tmp_path / "a.json"), task_of(task))), "a.json: question '1'"
        )


@pytest.mark.parametrize("read", [rows_of, read_feedback])
@given(content=files(FEEDBACK_ROWS))
def test_lines(tmp_path, survived, read, content):
    """A line that a crash or a disk has damaged must be named, or hours of feedback are lost with it."""
    judged_file(lambda path: list(read(path)), tmp_path / "a.jsonl", content)
    survived("bad inputs")


@given(content=files(QUESTIONS, OUTPUTS, "[1.5e+3, -0, true, null, []]"), chunk=st.integers(1, 40))
@example(content=b"[1e5, 1e+5, -12.5E-3, true, false, null]", chunk=1)
def test_a_stream_reads_what_the_whole_text_gives(survived, content, chunk):
    """A number, word or character cut where one chunk of the file ends was read as another value."""
    read = read_object if content.lstrip().startswith(b"{") else read_array
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", chunk)
        found = judged(lambda: list(read(Document("a.json", content), "file")), "a.json:")
    try:
        whole = json.loads(content.decode("utf-8-sig"), object_pairs_hook=unique_keys, parse_constant=int)
    except (ValueError, RecursionError):
        whole = None
    expected = list(whole.items()) if isinstance(whole, dict) else whole if isinstance(whole, list) else None
    if isinstance(whole, dict) != (read is read_object):
        expected = None
    assert found == expected or _is_not_a_number(expected)
    survived("bad inputs")


def _is_not_a_number(value):
    return any(isinstance(part, float) and math.isnan(part) for part in value or ())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@given(rows=st.lists(JSON, max_size=4), pairs=st.dictionaries(texts, JSON, max_size=4))
def test_what_is_written_is_read(tmp_path, rows, pairs):
    """A text with U+2028 or an escape in it came back as two lines, or not at all."""
    write_array(tmp_path / "a.json", rows)
    assert list(read_array(tmp_path / "a.json", "file")) == rows
    write_object(tmp_path / "a.json", pairs.items())
    assert dict(read_object(tmp_path / "a.json", "file")) == pairs
