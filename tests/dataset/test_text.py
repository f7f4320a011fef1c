"""The prompt's wording, pinned: a changed blank is another experiment."""

import pytest

from dataset.dialogue import Example
from dataset.encoding import ExampleEncoder
from dataset.text import CUT_MARKS, cut_response, label_turns, prompt_text
from models.lm.language_model import load_tokenizer
from models.release.reading import ReleasedEncoder

PERSONA = ("i like to ski.", "i hate mexican food.")
CONTEXT = ("hello what are you up to ?", "just got back from the slopes .", "do you ski often ?")
BEFORE = (
    "given persona: i like to ski. i hate mexican food.; context: Q: hello what are you up to ? "
    "R: just got back from the slopes . Q: do you ski often ?"
)


@pytest.mark.parametrize(
    ("kind", "response", "tail"),
    [
        (ExampleEncoder, "every weekend .", " R: every weekend ."),
        (ReleasedEncoder, "every weekend .", " R: every weekend ."),
        (ExampleEncoder, None, " R:"),
        (ReleasedEncoder, None, " R: "),
    ],
    ids=["training", "training as released", "inference", "inference as released"],
)
def test_golden_texts(make_config, kind, response, tail):
    """The exact text of training and inference; only the release's inference text ends in a blank."""
    config = make_config("opt")
    example = Example(PERSONA, CONTEXT, response or "", 0, 0, "here")
    text = kind(load_tokenizer(config.model), config)._text(example, with_response=response is not None)
    assert text.body == BEFORE + tail
    assert text.persona == "given persona: i like to ski. i hate mexican food."
    assert text.persona + text.context == BEFORE
    assert text.cue == " R:"


def test_a_text_without_persona():
    """A wording without the empty persona would show an LM that was trained on the other files a start it never saw."""
    text = prompt_text((), label_turns(["hi"]), "yo")
    assert text.body == "given persona: ; context: Q: hi R: yo"


@pytest.mark.parametrize(
    ("utterances", "labelled"),
    [
        (["a"], ["Q: a"]),
        (["a", "b"], ["R: a", "Q: b"]),
        (["a", "b", "c"], ["Q: a", "R: b", "Q: c"]),
        (["a", "b", "c", "d"], ["R: a", "Q: b", "R: c", "Q: d"]),
        ([], []),
    ],
)
def test_the_last_turn_is_always_the_partners(utterances, labelled):
    """Labels counted from the first turn swap the speakers when a context was cut to an even number."""
    assert label_turns(utterances) == labelled


@pytest.mark.parametrize(
    ("generated", "kept"),
    [
        (" i ski . R: and you", " i ski . "),
        (" i ski . Q: do you ?", " i ski . "),
        (" i ski . Summary: skiing", " i ski . "),
        (" i ski .\nnext", " i ski ."),
        (" time is 10:30", " time is 10"),
        (" one Q: two R: three", " one "),
        (" one\ntwo: three", " one"),
        (" i ski .", " i ski ."),
        ("R: again", ""),
        ("", ""),
    ],
)
def test_generated_text_is_cut_at_the_first_mark(generated, kept):
    """A prediction that continues with the partner's next turn is scored with it."""
    assert cut_response(generated) == kept


def test_every_mark_cuts():
    """The marks are the release's: its numbers depend on them."""
    assert set(CUT_MARKS) == {"R:", "Q:", "Summary:", "\n", ":"}
    assert [cut_response(f"a {mark} b") for mark in CUT_MARKS] == ["a "] * 5
