"""Result files that nobody wrote by hand: they are scored, or refused with file, line and key."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from models.decoding.evaluate import evaluate_runs, read_examples
from models.decoding.results import decoding_of, result_text
from tests.hunted import any_text, files, judged, judged_file, texts, values, with_a_part_replaced
from utils.metrics import score

ROW = {
    "prediction": "a b",
    "target": "a c",
    "prompt": 1,
    "context": ["Q: x"],
    "persona": ["p"],
    "nll": 0.5,
    "nll_tokens": 3,
}
LINES = (json.dumps(ROW) + "\n") * 3
OFFLINE = ["ppl", "f1", "f1_parlai", "bleu", "rouge1", "dist_1", "dist_2"]  # need neither data nor a model


def _rows(content, path):
    found = judged_file(read_examples, path, content)
    if found is not None:
        assert all(one.value is not None or one.reason for one in score(found, OFFLINE).values())
    return found


@given(content=files(LINES))
def test_damaged_files(tmp_path, survived, content):
    """The report over all runs must not end with the traceback of one file that a full disk has cut."""
    _rows(content, tmp_path / "evaluation_result.jsonl")
    survived("bad inputs")


@given(
    value=values,
    key=st.sampled_from(["prediction", "target", "nll", "nll_tokens", "other"]),
    random=st.randoms(),
)
@example(value="\ud83d", key="prediction", random=None)
@example(value=10**400, key="nll_tokens", random=None)
def test_any_value(tmp_path, survived, value, key, random):
    """Half a character passed, and the tokenizer of BERTScore refused it after the other runs were scored."""
    changed = (
        {**ROW, key: value} if random is None else with_a_part_replaced({**ROW, key: value}, value, random)
    )
    found = _rows(json.dumps(changed).encode(), tmp_path / "evaluation_result.jsonl")
    for row in found or ():
        assert f"{row['prediction']}{row['target']}".encode()
    survived("bad inputs")


@given(predictions=st.lists(texts, min_size=1, max_size=3))
def test_any_text_is_scored_and_told(tmp_path, predictions):
    """A reply of joiners, marks or nothing is a reply; a report that fails on it leaves every run without scores."""
    rows = [{**ROW, "prediction": text, "target": text or "x"} for text in predictions]
    path = tmp_path / "evaluation_result.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    assert read_examples(path) == rows
    path.with_suffix(".txt").write_text(result_text(rows, {"top_p": 0.5}), encoding="utf-8")
    assert decoding_of(path.with_suffix(".txt")) == {"top_p": 0.5}
    evaluate_runs(tmp_path, OFFLINE)


@given(content=files(result_text([ROW], {"top_p": 0.5, "seed": 3})))
def test_what_a_result_file_says_of_its_decoding(tmp_path, survived, content):
    """A run whose report is damaged is decoded again; it must not stop those after it."""
    path = tmp_path / "evaluation_result.txt"
    path.write_bytes(content)
    assert isinstance(decoding_of(path), dict)
    survived("bad inputs")


@given(name=any_text)
def test_any_name_of_a_metric(tmp_path, survived, name):
    """A misspelt metric gets a hint, however it was typed."""
    if name not in OFFLINE:
        judged(lambda: score([ROW], [name]))
    survived("bad inputs")
