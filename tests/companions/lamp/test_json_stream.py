"""JSON files one element at a time."""

import json
import tracemalloc

import pytest

from companions.lamp import json_stream
from companions.lamp.json_stream import read_array, read_object, write_array, write_object
from utils.errors import UserError

VALUES = [
    {"a": [1, 2.5, None], "b": {"ü": "\U0001f600"}},
    "text ] , [",
    12345,
    True,
    [],
    {},
    -0.5,
    12e-7,
    '"\\',
]


@pytest.fixture(params=[1, 3, 1 << 20])
def chunk(request, monkeypatch):
    """Sizes of a chunk that cut every value in two, and none."""
    monkeypatch.setattr(json_stream, "_CHUNK", request.param)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("indent", [None, 4])
@pytest.mark.parametrize("escaped", [True, False])
def test_elements_are_those_of_the_standard_reader(tmp_path, indent, escaped):
    """A value that is cut where a chunk ends would be lost, or be a shorter number."""
    path = tmp_path / "x.json"
    for values in (VALUES, [], [7]):
        path.write_text(f" {json.dumps(values, indent=indent, ensure_ascii=escaped)}\r\n", encoding="utf-8")
        assert list(read_array(path, "file")) == values
    content = {str(number): value for number, value in enumerate(VALUES)}
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=escaped), encoding="utf-8")
    assert list(read_object(path, "file")) == list(content.items())


def test_what_is_written_is_read_again(tmp_path):
    """Results that the standard reader cannot read are of no use to other programs."""
    path = tmp_path / "x.json"
    for values in (VALUES, []):
        write_array(path, iter(values))
        assert list(read_array(path, "file")) == values == json.loads(path.read_text("utf-8"))
    write_object(path, iter({"a": 1, "b": [2]}.items()))
    assert dict(read_object(path, "file")) == {"a": 1, "b": [2]} == json.loads(path.read_text("utf-8"))


@pytest.mark.usefixtures("chunk")
def test_an_array_within_an_object(tmp_path):
    """The golds of 20,000 questions would be in memory at once, or a key that stands after them would be lost."""
    path = tmp_path / "x.json"
    path.write_text('{"task": "t", "golds": [{"id": "1"}, {"id": "2"}], "more": [1, 2]}')
    pairs = [("task", "t"), ("golds", {"id": "1"}), ("golds", {"id": "2"}), ("more", [1, 2])]
    assert list(read_object(path, "file", array="golds")) == pairs
    path.write_text('{"golds":\n7}')
    with pytest.raises(UserError, match=r":2: expected '\[' \('golds' is an array\), found '7'"):
        list(read_object(path, "file", array="golds"))


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1,\n2", "2: expected ',' or ']' (after a value), found the end"),
        ("[1]\n]", "2: something follows the end of the JSON: ']'"),
        ('{"a": 1}', "1: expected '[' (questions file is an array), found '{'"),
        ("  ", "1: expected '[' (questions file is an array), found the end"),
        ("[tru", "1: not valid JSON: Expecting value"),
        ('["a', "1: not valid JSON: Unterminated string starting at"),
        ("[1,]", "1: not valid JSON: Expecting value"),
        ("[1\n,\n2 3]", "3: expected ',' or ']' (after a value), found '3'"),
        ("[NaN]", "1: not valid JSON: NaN is no number"),
        ("[-Infinity]", "1: not valid JSON: -Infinity is no number"),
        ('[\n{"a": 1, "a": 2}]', "2: not valid JSON: key 'a' is given twice"),
        ('["\\u00"]', "1: not valid JSON: Invalid"),
        ("[" * 100_000, "1: not valid JSON: nested too deeply"),
        (b'[1,\n"\xe9\n"]', "2: not UTF-8 text (invalid continuation byte)"),
        (b'["\xc3', "1: not UTF-8 text"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path, text, message):
    """In a file of a gigabyte nobody finds a mistake whose place is not told."""
    path = tmp_path / "x.json"
    if json_stream._CHUNK < 9 and len(text) > 1000:
        pytest.skip("deep nesting a character at a time takes minutes")
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as caught:
        list(read_array(path, "questions file"))
    assert str(caught.value).startswith(f"{path}:{message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1,\n"a": 2}', "2: key 'a' is given twice"),
        ("{1: 2}", "1: expected '\"' (a key), found '1'"),
        ('{"a" 1}', "1: expected ':' (after a key), found '1'"),
        ("[]", "1: expected '{' (ranking is an object), found '['"),
    ],
)
def test_a_mistake_in_an_object(tmp_path, text, message):
    """Of two rankings of one question the last would count in silence."""
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        list(read_object(path, "ranking"))
    assert str(caught.value) == f"{path}:{message}"


def test_a_file_that_is_not_there(tmp_path):
    """The path is what the user mistyped."""
    with pytest.raises(UserError, match="questions file not found: "):
        list(read_array(tmp_path / "none.json", "questions file"))


def test_memory_does_not_grow_with_the_number_of_elements(tmp_path):
    """Files of 20,000 profiles take gigabytes when they are read at once."""
    path = tmp_path / "x.json"
    element = {"id": "1", "profile": [{"text": "word " * 40} for _ in range(20)]}

    def peak(count):
        tracemalloc.start()
        write_array(path, (element for _ in range(count)))
        assert sum(1 for _ in read_array(path, "file")) == count
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few = peak(1000)
    assert peak(4000) < 1.2 * few
    assert path.stat().st_size > 16e6


def test_a_file_that_could_not_be_written_whole_stays_as_it_was(tmp_path):
    """Half a file would be read later as a whole one with fewer questions."""
    path = tmp_path / "x.json"
    write_array(path, [1])

    def rows():
        yield 2
        raise UserError("a mistake in the input")

    with pytest.raises(UserError, match="a mistake in the input"):
        write_array(path, rows())
    assert json.loads(path.read_text()) == [1]
    with pytest.raises(UserError, match="cannot be written as JSON"):
        write_array(path, [float("nan")])
    with pytest.raises(UserError, match="cannot write .*No such file"):
        write_array(tmp_path / "no" / "x.json", [])
