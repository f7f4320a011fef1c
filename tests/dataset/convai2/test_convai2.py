"""The ConvAI2 format: every variant is read, and whatever is malformed is named by file and line."""

import pytest

from dataset.convai2.reader import read_convai2
from dataset.dialogue import PARTNER, SELF, Utterance, examples_of
from dataset.readers import read_dialogues
from tests.conftest import SHARED
from utils.errors import UserError

PLAIN = (
    "1 your persona: i ski.\n2 your persona: i cook.\n3 hi\thello\n4 you ?\tfine\n"
    "1 your persona: i sing.\n2 yo\they\n"
)


@pytest.fixture
def read(tmp_path):
    """read(text or bytes): the dialogues of a file of that content."""

    def read(content):
        path = tmp_path / "d.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_convai2(path)

    return read


def _exchange(partner, response, candidates, line):
    """The utterances of one turn line."""
    return (Utterance(PARTNER, partner, (), line), Utterance(SELF, response, candidates, line))


def _content(dialogues):
    return [(d.personas, [(u.speaker, u.text) for u in d.utterances]) for d in dialogues]


def test_dialogues_and_their_lines(read):
    """Turns of one dialogue that land in the next, or error messages that name another line."""
    first, second = read(PLAIN)
    assert first.persona == ("i ski.", "i cook.")
    assert first.utterances == (*_exchange("hi", "hello", (), 3), *_exchange("you ?", "fine", (), 4))
    assert (second.persona, second.utterances) == (("i sing.",), _exchange("yo", "hey", (), 6))


@pytest.mark.parametrize(
    ("lines", "own", "partner"),
    [
        (["your persona: a."], ("a.",), ()),
        (["partner's persona: b."], (), ("b.",)),
        (["your persona: a.", "partner's persona: b."], ("a.",), ("b.",)),
        ([], (), ()),
        (["your persona: my motto : carpe : diem."], ("my motto : carpe : diem.",), ()),
    ],
    ids=["self", "other", "both", "none", "colons"],
)
def test_kinds_of_files(read, lines, own, partner):
    """A kind of file whose persona is lost or given to the other speaker, and text lost after a second colon."""
    numbered = [f"{number} {line}" for number, line in enumerate([*lines, "hi\thello"], start=1)]
    (dialogue,) = read("\n".join(numbered) + "\n")
    assert dialogue.personas == {SELF: own, PARTNER: partner}
    assert dialogue.persona == own + partner


def test_candidates(read):
    """Candidates that become part of the response."""
    (dialogue,) = read("1 hi\thello\t\tno|maybe|hello\n")
    assert dialogue.utterances == _exchange("hi", "hello", ("no", "maybe", "hello"), 1)


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.replace("\n", "\r\n"),
        "\ufeff" + PLAIN,
        PLAIN.removesuffix("\n"),
        PLAIN.replace("\n", "\n\n") + "\n \n",
        "\n" + PLAIN,
        PLAIN.replace("\t", " \t ").replace("persona: ", "persona:"),
    ],
    ids=["crlf", "bom", "no last newline", "blank lines", "blank first line", "blanks around texts"],
)
def test_harmless_variants_read_the_same(read, content):
    """What editors and other systems do to a text file must neither fail nor change the examples."""
    assert _content(read(content)) == _content(read(PLAIN))


def test_exact_reading_keeps_spaces_and_refuses_an_empty_persona_line(tmp_path):
    """A method whose data has these spaces could not be repeated; a fact without words stands for nothing."""
    path = tmp_path / "file.txt"
    path.write_text("1 your persona:  a. \n2  hi \t  yo \n", encoding="utf-8")
    (dialogue,) = read_convai2(path, exact=True)
    assert dialogue.utterances == _exchange(" hi ", "  yo ", (), 2)
    assert dialogue.persona == ("a.",)
    (plain,) = read_convai2(path)
    assert plain.utterances == _exchange("hi", "yo", (), 2)
    path.write_text("1 your persona: \n2 hi\tyo\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"file\.txt:1: the persona line is empty"):
        read_convai2(path, exact=True)
    assert read_convai2(path)[0].persona == ("",)
    path.write_text("1 hi\t \n", encoding="utf-8")
    with pytest.raises(UserError, match=r"file\.txt:1: the response is empty"):
        read_convai2(path, exact=True)


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
def test_other_line_marks_stay_in_the_utterance(read, mark):
    """str.splitlines cuts at all of these, and the rest of the utterance would be a malformed line."""
    (dialogue,) = read(f"1 your persona: a{mark}b.\n2 hi{mark}there\thel{mark}lo\n")
    assert dialogue.persona == (f"a{mark}b.",)
    assert dialogue.utterances == _exchange(f"hi{mark}there", f"hel{mark}lo", (), 2)


def test_a_silent_opener_is_an_utterance(read):
    """Dialogues that the modelled speaker opens have `__SILENCE__` as the partner's words."""
    (dialogue,) = read("1 __SILENCE__\thello\n")
    assert examples_of([dialogue])[0].context == ("__SILENCE__",)


@pytest.mark.parametrize(
    ("content", "line", "fault"),
    [
        ("hello\thi\n", 1, "a line starts with its number and one space, found 'hello"),
        (PLAIN + "3\thi\tyo\n", 7, "a line starts with its number"),
        (PLAIN + "x hi\tyo\n", 7, "a line starts with its number"),
        ("2 hi\tyo\n", 1, "the line is numbered 2 after 0"),
        ("0 hi\tyo\n", 1, "the line is numbered 0 after 0"),
        ("1 hi\tyo\n3 hi\tyo\n2 hi\tyo\n", 3, "the line is numbered 2 after 3"),
        ("1 hi\tyo\n2 hi\tyo\n2 hi\tyo\n", 3, "the line is numbered 2 after 2"),
        ("1 hi\tyo\n2 your persona: late.\n", 2, "a persona line stands after the first turn"),
        ("1 your persona: a.\tyo\n2 hi\tyo\n", 1, "a persona line holds a tab"),
        ("1 hi\n", 1, "expected 'utterance<TAB>response', found 1 field(s): 'hi'"),
        ("1 hi\tyo\tc|d\n", 1, "found 3 field(s)"),
        ("1 hi\tyo\t\tc\td\n", 1, "found 5 field(s)"),
        ("1 hi\t\n", 1, "the response is empty"),
        ("1 hi\t \n", 1, "the response is empty"),
        ("1 \tyo\n", 1, "the utterance is empty"),
        ("1 your persona: a.\n1 hi\tyo\n", 2, "the dialogue that ends before this line has no turn"),
        ("1 hi\tyo\n1 your persona: a.", 2, "has no turn"),
        ("\n\n1 hi\n", 3, "found 1 field(s)"),
        ("1 hi\tyo\r\n2 hi\r\n", 2, "found 1 field(s)"),
    ],
)
def test_a_malformed_line_is_named(read, content, line, fault):
    """A malformed line that is skipped or misread changes the training set without a word."""
    with pytest.raises(UserError) as caught:
        read(content)
    message = str(caught.value)
    assert f"d.txt:{line}: " in message
    assert fault in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "dialogue file is empty: "),
        (b"\n \n", "the file holds blank lines only"),
        (b"1 hi\t\xff\n", r"d\.txt:1: not UTF-8 text \(byte 5\)"),
        (b"\xef\xbb\xbf1 hi\tyo\n2 \xff\n", r"d\.txt:2: not UTF-8 text"),
        ("1 hi\tyo\n".encode("utf-16"), "not UTF-8 text"),
    ],
)
def test_a_file_without_dialogues_is_an_error(read, content, fault):
    """An empty dataset trains nothing and reports success."""
    with pytest.raises(UserError, match=fault):
        read(content)


def test_a_missing_file_is_an_error(tmp_path):
    """The release makes an empty dataset of a missing file."""
    with pytest.raises(UserError, match=r"dialogue file not found: .*none\.txt"):
        read_dialogues(tmp_path / "none.txt", "convai2")


def test_every_turn_is_an_example_with_all_that_was_said_before(read):
    """A context that misses a turn, or holds the response it is to predict."""
    examples = examples_of(read(PLAIN))
    assert [(e.context, e.response, e.dialogue, e.turn) for e in examples] == [
        (("hi",), "hello", 0, 0),
        (("hi", "hello", "you ?"), "fine", 0, 1),
        (("yo",), "hey", 1, 0),
    ]
    assert [e.where.rsplit("/", 1)[1] for e in examples] == ["d.txt:3", "d.txt:4", "d.txt:6"]
    assert examples[1].persona == ("i ski.", "i cook.")


def test_only_longest_keeps_the_last_turn_of_each_dialogue(read):
    """The first turn instead of the last, or one example for the whole file."""
    examples = examples_of(read(PLAIN), only_longest=True)
    assert [(e.response, e.dialogue, e.turn) for e in examples] == [("fine", 0, 1), ("hey", 1, 0)]


def test_counts_of_the_small_files(data, examples):
    """A reader that loses or doubles dialogues."""
    turns = sum("\t" in line for line in data["train"].read_text(encoding="utf-8").splitlines())
    dialogues = read_convai2(data["train"])
    assert (len(dialogues), len(examples)) == (12, turns)
    assert len(examples_of(dialogues, only_longest=True)) == 12


@pytest.mark.parametrize(
    ("name", "dialogues", "examples"),
    [
        ("valid_self_original_no_cands.txt", 1000, 7801),
        ("valid_both_original_no_cands.txt", 1000, 7801),
        ("train_1k_self_original_no_cands.txt", 1000, 7316),
    ],
)
def test_counts_of_convai2(name, dialogues, examples):
    """The published sizes: another count means other results than the literature's."""
    path = SHARED / "convai2" / name
    if not path.is_file():
        pytest.skip("ConvAI2 is not here")
    found = read_convai2(path)
    assert (len(found), len(examples_of(found))) == (dialogues, examples)
    assert all(dialogue.persona for dialogue in found)


def test_a_line_number_of_thousands_of_digits(read):
    """Python refuses to read such a number: a traceback for a damaged file."""
    with pytest.raises(UserError, match=r"d\.txt:1: a line starts with its number"):
        read("1" * 5000 + " hi\tyo\n")
