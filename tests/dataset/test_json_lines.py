"""Own data as JSON lines: read as the same dialogues in the ConvAI2 format are, and refused by file, line and key."""

import dataclasses
import json

import pytest

from dataset.convai2.reader import read_convai2
from dataset.dialogue import PARTNER, SELF, Utterance, examples_of
from dataset.json_lines import read_json_lines
from dataset.readers import read_dialogues
from tests.conftest import TRAIN, VALID
from utils.errors import UserError

TALK = [{"speaker": "partner", "text": "hi"}, {"speaker": "self", "text": "hello"}]
FINE = json.dumps({"personas": {"self": ["i ski."], "partner": ["i cook."]}, "utterances": TALK}) + "\n"


@pytest.fixture
def read(tmp_path):
    """read(text or bytes): the dialogues of a file of that content."""

    def read(content):
        path = tmp_path / "own.jsonl"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_json_lines(path)

    return read


def _line(**fields):
    return json.dumps({"utterances": TALK} | fields) + "\n"


def _said(*utterances):
    return _line(utterances=[{"speaker": speaker, "text": text} for speaker, text in utterances])


def _without_line(examples):
    return [dataclasses.replace(example, where="") for example in examples]


@pytest.mark.parametrize("path", [TRAIN, VALID], ids=["train", "valid"])
def test_the_same_dialogues_in_both_formats_are_the_same_examples(tmp_path, path):
    """Own data would be trained on another text than ConvAI2, and the two could not be compared."""
    dialogues = read_convai2(path)
    own = tmp_path / "own.jsonl"
    own.write_text(
        "".join(
            _line(
                personas=d.personas, utterances=[{"speaker": u.speaker, "text": u.text} for u in d.utterances]
            )
            for d in dialogues
        ),
        encoding="utf-8",
    )
    ours = examples_of(read_dialogues(own, "json_lines"))
    assert _without_line(ours) == _without_line(examples_of(dialogues))
    assert [e.where for e in ours] == [f"{own}:{e.dialogue + 1}" for e in ours]


def test_speakers_personas_and_lines(read):
    """Words of one speaker that the other is given, or error messages that name another line."""
    (dialogue,) = read("\n" + FINE)
    assert dialogue.utterances == (Utterance(PARTNER, "hi", line=2), Utterance(SELF, "hello", line=2))
    assert dialogue.personas == {SELF: ("i ski.",), PARTNER: ("i cook.",)}


@pytest.mark.parametrize(
    ("personas", "persona"),
    [
        ({}, ()),
        ({"personas": {}}, ()),
        ({"personas": {"partner": ["i cook."]}}, ("i cook.",)),
        ({"personas": {"partner": ["i cook."], "self": [" i ski. "]}}, ("i ski.", "i cook.")),
    ],
    ids=["no personas", "no speaker", "partner alone", "partner first"],
)
def test_personas_may_be_left_out(read, personas, persona):
    """A persona that is lost, or a text that depends on the order of the keys of an object."""
    assert read(_line(**personas))[0].persona == persona


@pytest.mark.parametrize(
    "content",
    [
        FINE.replace("\n", "\r\n"),
        "\ufeff" + FINE,
        FINE.removesuffix("\n"),
        "\n \n" + FINE + "\n\n",
        FINE.replace('"hi"', '" hi\\n"'),
        json.dumps(json.loads(FINE), sort_keys=True).replace(": ", ":"),
    ],
    ids=["crlf", "bom", "no last newline", "blank lines", "blanks around texts", "other order of keys"],
)
def test_harmless_variants_read_the_same(read, content):
    """What editors and other writers of JSON do to a file must neither fail nor change the examples."""
    assert _without_line(examples_of(read(content))) == _without_line(examples_of(read(FINE)))


@pytest.mark.parametrize("mark", ["\u2028", "\x85", "\x0c", "\r"])
def test_other_line_marks_stay_in_the_text(read, mark):
    """str.splitlines cuts at all of these, and half a JSON object would be a malformed line."""
    content = json.dumps(
        {"utterances": [TALK[0], {"speaker": "self", "text": f"a{mark}b"}]}, ensure_ascii=False
    )
    assert read(content)[0].utterances[1].text == f"a{mark}b"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "not JSON: Expecting property name enclosed in double quotes at column 2"),
        (FINE.strip() + FINE, "not JSON: Extra data at column "),
        ("[]", "expected an object, found []"),
        ("null", "expected an object, found None"),
        ("{}", "the key 'utterances' is missing"),
        (_line(persona=["i ski."]), "unknown key 'persona'; did you mean 'personas'?"),
        (_line(personas=["i ski."]), "personas: expected an object, found ['i ski.']"),
        (_line(personas={"me": []}), "personas: unknown key 'me'; valid: partner, self"),
        (_line(personas={"self": "i ski."}), "personas.self: expected a list, found 'i ski.'"),
        (_line(personas={"self": ["i ski.", 3]}), "personas.self[1]: expected a text, found 3"),
        (_line(personas={"self": [" "]}), "personas.self[0]: the text is empty"),
        (_line(utterances={}), "utterances: expected a list, found {}"),
        (_line(utterances=[]), "utterances: 'self' answers nothing"),
        (_line(utterances=["hi", *TALK]), "utterances[0]: expected an object, found 'hi'"),
        (_line(utterances=[TALK[0], {"speaker": "self"}]), "utterances[1]: the key 'text' is missing"),
        (_line(utterances=[TALK[0] | {"txt": 1}]), "utterances[0]: unknown key 'txt'; did you mean 'text'?"),
        (_said((None, "hi")), "utterances[0].speaker: expected a text, found None"),
        (
            _said(("Partner", "hi")),
            "utterances[0].speaker: unknown speaker 'Partner'; did you mean 'partner'?",
        ),
        (_said(("partner", "hi"), ("self", "")), "utterances[1].text: the text is empty"),
        (_said(("partner", ["hi"])), "utterances[0].text: expected a text, found ['hi']"),
        (
            _said(("partner", "hi"), ("partner", "hi")),
            "utterances[1].speaker: 'partner' speaks twice in a row",
        ),
        (_said(("partner", "hi")), "utterances: 'self' answers nothing"),
        (_said(("self", "hi"), ("partner", "yo")), "utterances: 'self' answers nothing"),
        (_said(("partner", "hi\r\nyou")), "utterances[0].text: a line break stands inside 'hi\\r\\nyou'"),
        (_said(("partner", "hi \ud83d")), "utterances[0].text: 'hi \\ud83d' holds half of a surrogate pair"),
        (
            '{"utterances": [], "utterances": []}',
            "not JSON that can be read: key 'utterances' is given twice",
        ),
        ('{"utterances": ' + "1" * 5000 + "}", "not JSON that can be read: "),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        (_line(**{"k" * 5000 + "\n": 1}), "unknown key 'kkk"),
    ],
    ids=lambda value: value[:30].strip() if isinstance(value, str) else None,
)
def test_a_malformed_line_is_named(read, line, fault):
    """A line that is skipped or misread changes the training set without a word; a traceback names no line."""
    with pytest.raises(UserError) as caught:
        read(f"{FINE}\n{line}")
    message = str(caught.value)
    assert f"own.jsonl:3: {fault}" in message
    assert len(message.splitlines()) == 1
    assert len(message) < 500
    assert message.encode("utf-8")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "dialogue file is empty: "),
        (b"\n \n", "the file holds blank lines only"),
        (FINE.encode() + b'{"utterances": "\xff"}', r"own\.jsonl:2: not UTF-8 text"),
        (FINE.encode("utf-16"), r"own\.jsonl:1: not UTF-8 text"),
    ],
    ids=["empty", "blank", "byte", "utf-16"],
)
def test_a_file_without_dialogues_is_an_error(read, content, fault):
    """An empty dataset trains nothing and reports success."""
    with pytest.raises(UserError, match=fault):
        read(content)


def test_a_line_of_any_length(read):
    """A limit on lines would refuse long dialogues, or cut them."""
    talk = [{"speaker": (PARTNER, SELF)[n % 2], "text": "x" * 1000} for n in range(2000)]
    assert len(examples_of(read(_line(utterances=talk)))) == 1000
