"""Dialogue files that nobody wrote by hand: every reader parses them, or says in one line what is wrong and where."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from dataset.convai2.reader import read_convai2
from dataset.dialogue import PARTNER, SELF, examples_of
from dataset.json_lines import read_json_lines
from dataset.strict_json import parsed_line
from tests.hunted import files, judged, judged_file, spoken, values

CONVAI2 = """\
1 your persona: i ski .
2 partner's persona: i cook .
3 hello there .\thi !
4 and you ?\tme too .\t\tno .|me too .|yes
1 your persona: i have two cats .
2 hi\thello
"""
JSON_LINES = """\
{"personas": {"self": ["i ski ."], "partner": ["i cook ."]}, "utterances": [{"speaker": "partner", "text": "hi"}, \
{"speaker": "self", "text": "hello"}]}

{"utterances": [{"speaker": "self", "text": "hi"}, {"speaker": "partner", "text": "o"}, \
{"speaker": "self", "text": "x"}]}
"""


def _check_dialogues(dialogues):
    """What readers promise: turns are taken, and no text is blank or more than a line."""
    assert dialogues
    for found in examples_of(dialogues):
        assert found.context
        assert found.response.strip()
        assert not any("\n" in text or not text.strip() for text in (*found.context, found.response))


@given(content=files(CONVAI2))
@example(content="1 your persona: x\n2 a\u2028b\x85c\td\x1ce\n".encode())
def test_convai2(tmp_path, survived, content):
    """A damaged download ended in a traceback, or was trained on as if it were whole."""
    for exact in (False, True):
        found = judged_file(lambda path, exact=exact: read_convai2(path, exact), tmp_path / "a.txt", content)
        if found is not None:
            _check_dialogues(found)
    survived("bad inputs")


@given(content=files(JSON_LINES))
def test_json_lines(tmp_path, survived, content):
    """A damaged file ended in a traceback, or half a character reached the tokenizer, which refuses it hours later."""
    found = judged_file(read_json_lines, tmp_path / "a.jsonl", content)
    if found is not None:
        _check_dialogues(found)
    survived("bad inputs")


@given(value=values)
def test_json_lines_of_any_value(tmp_path, survived, value):
    """Valid JSON of another form passed the parser, and failed where a list was taken for a text."""
    for row in (
        value,
        {"utterances": value},
        {"utterances": [{"speaker": "self", "text": value}], "personas": value},
    ):
        line = json.dumps(row).encode()
        judged_file(read_json_lines, tmp_path / "a.jsonl", line)
        survived("bad inputs")


@given(line=files(JSON_LINES.splitlines()[0], "[1, 2.5e-3, null]"))
def test_strict_json(survived, line):
    """What Python's decoder raises of a line (of nesting, of digits, of bytes) is several kinds of error."""
    judged(lambda: parsed_line(line, "a.jsonl:1"), "a.jsonl:1")
    survived("bad inputs")


@given(
    exchanges=st.lists(st.tuples(spoken, spoken), min_size=1, max_size=4),
    persona=st.lists(st.tuples(st.sampled_from((SELF, PARTNER)), spoken), max_size=3),
)
def test_what_is_written_is_read(tmp_path, exchanges, persona):
    """A reader that cuts at U+2028, strips joiners or takes a BOM for text trains on other words than were said."""
    mark = {SELF: "your", PARTNER: "partner's"}
    lines = [f"{mark[side]} persona: {text}" for side, text in persona]
    lines += ["\t".join(exchange) for exchange in exchanges]
    path = tmp_path / "a.txt"
    path.write_bytes("".join(f"{number} {line}\n" for number, line in enumerate(lines, start=1)).encode())
    (dialogue,) = read_convai2(path)
    texts = [text.strip() for exchange in exchanges for text in exchange]
    assert [utterance.text for utterance in dialogue.utterances] == texts
    for side in (SELF, PARTNER):
        assert list(dialogue.personas[side]) == [text.strip() for owner, text in persona if owner == side]
    rows = [
        {"speaker": side, "text": text}
        for pair in exchanges
        for side, text in zip((PARTNER, SELF), pair, strict=True)
    ]
    path.write_text(json.dumps({"utterances": rows}, ensure_ascii=False), encoding="utf-8")
    assert [utterance.text for utterance in read_json_lines(path)[0].utterances] == texts
