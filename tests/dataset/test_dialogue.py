"""Dialogues of two speakers, and what SPT and others read from them."""

import tracemalloc

import pytest

from dataset.convai2.reader import read_convai2
from dataset.dialogue import PARTNER, SELF, Dialogue, Utterance, examples_of
from dataset.text import label_turns, prompt_text
from tests.conftest import SHARED, TRAIN
from utils.errors import UserError

TALK = (
    Utterance(PARTNER, "hi", line=3),
    Utterance(SELF, "hello", line=3),
    Utterance(PARTNER, "you ?", line=4),
    Utterance(SELF, "fine", line=4),
)
BOTH = Dialogue(TALK, {SELF: ("i ski.",), PARTNER: ("i cook.",)}, "d.txt")
MIXED = (
    "1 partner's persona: i cook.\n2 your persona: i ski.\n3 partner's persona: i sing.\n4 your persona: i run.\n"
    "5 hi\thello\n6 you ?\tfine\n1 your persona: i fly.\n2 yo\they\n"
)


def _spt_texts(path):
    """The training texts of a ConvAI2 file, worked out from the specification alone (sections 1 and 2)."""
    texts = []
    for line in path.read_bytes().decode("utf-8").split("\n")[:-1]:
        number, content = line.split(" ", 1)
        if number == "1":
            persona, said = [], ""
        if "\t" not in content:
            persona.append(content.split("persona: ", 1)[1])
            continue
        partner, response = content.split("\t")[:2]
        said += f" Q: {partner}"
        texts.append(f"given persona: {' '.join(persona)}; context:{said} R: {response}")
        said += f" R: {response}"
    return texts


def _our_texts(path):
    return [
        prompt_text(example.persona, label_turns(example.context), example.response).body
        for example in examples_of(read_convai2(path))
    ]


@pytest.mark.parametrize(
    "path",
    [
        SHARED / "convai2" / "valid_both_original_no_cands.txt",
        SHARED / "convai2" / "valid_self_original_no_cands.txt",
        TRAIN,
    ],
    ids=["both", "self", "sample"],
)
def test_spt_reads_every_persona_line_of_the_file(path):
    """Another text than the specification's is another experiment: no published number can be compared."""
    if not path.is_file():
        pytest.skip("ConvAI2 is not here")
    assert _our_texts(path) == _spt_texts(path)


@pytest.mark.parametrize(
    "content",
    [MIXED, MIXED.replace("your", "partner's"), "1 hi\thello\n2 you ?\tfine\t\tbad|fine\n"],
    ids=["mixed", "other", "none"],
)
def test_spt_reads_every_kind_of_file_the_same_way(tmp_path, content):
    """Persona lines that are sorted by speaker, or of `self` alone, are another text than the file's."""
    path = tmp_path / "d.txt"
    path.write_text(content, encoding="utf-8")
    assert _our_texts(path) == _spt_texts(path)


def test_mixed_persona_lines_belong_to_their_speakers(tmp_path):
    """A file with the lines of both would give each speaker the persona of the other as well."""
    path = tmp_path / "mixed.txt"
    path.write_text(MIXED, encoding="utf-8")
    dialogue = read_convai2(path)[0]
    assert dialogue.persona == ("i cook.", "i ski.", "i sing.", "i run.")
    assert dialogue.personas == {SELF: ("i ski.", "i run."), PARTNER: ("i cook.", "i sing.")}


def test_the_partners_replies_are_examples_with_the_partners_view():
    """A model of the partner that is shown the other's persona, or another turn's context, learns to leak both."""
    (example,) = examples_of([BOTH], speaker=PARTNER)
    assert (example.persona, example.context) == (("i cook.",), ("hi", "hello"))
    assert (example.response, example.turn, example.where) == ("you ?", 0, "d.txt:4")
    assert label_turns(example.context) == ["R: hi", "Q: hello"]


def test_the_partner_is_not_given_the_persona_of_a_self_file():
    """A file that holds one persona would tell the partner all about the other speaker."""
    dialogue = Dialogue(TALK, {SELF: ("i ski.",)}, "d.txt")
    assert examples_of([dialogue], speaker=PARTNER)[0].persona == ()


@pytest.mark.parametrize(
    ("speaker", "personas", "lines"),
    [
        (SELF, None, ("i ski.", "i cook.")),
        (SELF, "own", ("i ski.",)),
        (PARTNER, "own", ("i cook.",)),
        (PARTNER, "all", ("i ski.", "i cook.")),
    ],
)
def test_whose_persona_lines_an_example_has(speaker, personas, lines):
    """Persona lines of the wrong speaker train a model that speaks for somebody else."""
    assert examples_of([BOTH], speaker=speaker, personas=personas)[0].persona == lines


def test_persona_lines_without_an_order_are_those_of_self_first():
    """A format without one order for both, such as JSON with sorted keys, would give SPT another text."""
    lines = {PARTNER: ("i cook.",), SELF: ("i ski.",)}
    assert Dialogue(TALK, lines).persona == Dialogue(TALK, dict(reversed(lines.items()))).persona
    assert Dialogue(TALK, lines).persona == ("i ski.", "i cook.")


def test_what_self_opens_with_is_context():
    """A response to nothing has no partner's words to answer, and would shift the number of every later turn."""
    dialogue = Dialogue(TALK[1:], {}, "d.txt")
    (example,) = examples_of([dialogue])
    assert (example.context, example.response, example.turn) == (("hello", "you ?"), "fine", 0)
    assert label_turns(example.context) == ["R: hello", "Q: you ?"]


@pytest.mark.parametrize(("speaker", "last"), [(SELF, ("fine", 1)), (PARTNER, ("you ?", 0))])
def test_only_longest_is_the_speakers_last_response(speaker, last):
    """The last utterance of the dialogue is not always the speaker's."""
    (example,) = examples_of([BOTH], only_longest=True, speaker=speaker)
    assert (example.response, example.turn) == last


@pytest.mark.parametrize("only_longest", [False, True])
def test_a_dialogue_without_a_response_has_no_example(only_longest):
    """The partner of a dialogue of one turn never answers; an index error would end the run."""
    dialogue = Dialogue(TALK[:2], {}, "d.txt")
    assert examples_of([dialogue, BOTH], only_longest, PARTNER)[0].dialogue == 1


@pytest.mark.parametrize(
    ("speakers", "fault"),
    [
        ((PARTNER, SELF, SELF), r"^d\.txt:7: utterances\[2\]\.speaker: 'self' speaks twice in a row"),
        (
            (PARTNER, "slef"),
            r"^d\.txt:7: utterances\[1\]\.speaker: unknown speaker 'slef'; did you mean 'self'",
        ),
    ],
)
def test_speakers_take_turns(speakers, fault):
    """The template labels utterances alternately: a second one in a row is put into the other's mouth."""
    with pytest.raises(UserError, match=fault):
        Dialogue(tuple(Utterance(speaker, "hi", line=7) for speaker in speakers), {}, "d.txt")


def test_a_persona_of_an_unknown_speaker_is_an_error():
    """Lines under a misspelt speaker would be left out of every text without a word."""
    with pytest.raises(UserError, match=r"^d\.txt: personas: unknown speaker 'Self'; did you mean 'self'"):
        Dialogue(TALK, {"Self": ("i ski.",)}, "d.txt")


def test_an_order_that_misses_a_persona_line_is_an_error():
    """The line would be left out of every text without a word."""
    with pytest.raises(ValueError, match="one speaker for each persona line"):
        Dialogue(TALK, {SELF: ("i ski.", "i run.")}, "d.txt", (SELF,))


def test_contexts_of_a_long_dialogue_take_no_memory():
    """A copy of all that was said before for each turn: 90 kB of text with 10,000 turns took 766 MiB."""
    texts = [Utterance((PARTNER, SELF)[turn % 2], str(turn)) for turn in range(10_000)]
    tracemalloc.start()
    examples = examples_of([Dialogue(tuple(texts), {})])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20
    context = examples[-1].context
    assert (len(context), context[-1], context[-2:]) == (9999, "9998", ("9997", "9998"))
    assert examples[0].context == ("0",)
    assert hash(examples[0].context) == hash(("0",))
    assert examples[0].context != examples[1].context
    assert examples[1].context[::-1] == ("2", "1", "0")
    assert examples[1].context[0:99] == ("0", "1", "2")
    with pytest.raises(IndexError):
        _ = examples[0].context[1]
