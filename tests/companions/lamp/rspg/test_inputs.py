"""What the scorer reads: nothing of an output is lost to a long prompt."""

import pytest

from companions.lamp.encoder import load_encoder
from companions.lamp.rspg.inputs import InputFormat, InputMaker
from tests.companions.lamp.rspg.data import ENCODER, SMALL
from utils.errors import UserError

LONG = "the quiet garden " * 40


@pytest.fixture(scope="module")
def encoders():
    """Longformer's and BERT's, by family."""
    return {"longformer": load_encoder(str(ENCODER)), "bert": load_encoder(str(SMALL))}


def texts(encoder, kind, prompt, output, max_length=24, released=False):
    """The input as text, with its special tokens."""
    maker = InputMaker(encoder, InputFormat(kind, max_length, released))
    (ids,) = maker.ids([prompt], [output])
    assert len(ids) <= min(max_length, encoder.max_length)
    return encoder.tokenizer.decode(ids)


def test_a_long_prompt_keeps_the_output(encoders):
    """The release cuts the end of the whole text: Post then sees what Pre sees, and calls the LM for nothing."""
    encoder = encoders["longformer"]
    assert texts(encoder, "Post", LONG, "An oven").endswith("</s> an oven</s>")
    assert "oven" not in texts(encoder, "Post", LONG, "An oven", released=True)


def test_a_long_output_leaves_half_to_the_prompt(encoders):
    """An output that repeats itself for ever would leave nothing of the question."""
    for encoder in encoders.values():
        maker = InputMaker(encoder, InputFormat("Post", 24))
        both, short, _ = maker.ids([LONG, "the garden", LONG], [LONG, LONG, "an oven"])
        separator = encoder.tokenizer.sep_token_id
        assert both[1:].index(separator) == maker.room - maker.room // 2
        # the prompt leaves room, which the output takes
        assert len(short) == 24
        assert short[1:].index(separator) < maker.room // 2


@pytest.mark.parametrize("family", ["longformer", "bert"])
@pytest.mark.parametrize("kind", ["Pre", "Post"])
def test_short_texts_are_those_of_the_tokenizer(encoders, family, kind):
    """Halves that are joined with another blank, or without special tokens, are another text."""
    encoder = encoders[family]
    whole = "the quiet garden" + (f" {encoder.tokenizer.sep_token} an oven" if kind == "Post" else "")
    maker = InputMaker(encoder, InputFormat(kind, 64))
    (ids,) = maker.ids(["The quiet GARDEN"], ["An oven"])
    assert ids == encoder.tokenizer(whole).input_ids


def test_case(encoders):
    """Longformer's vocabulary knows case: a prompt in lower case beside an output as it was is no text it has read."""
    encoder = encoders["longformer"]
    assert "An Oven" not in texts(encoder, "Post", "X", "An Oven")
    assert "An Oven" in texts(encoder, "Post", "X", "An Oven", released=True)


def test_pre_does_not_look_at_outputs(encoders):
    """With them it could not be asked before the LM is."""
    maker = InputMaker(encoders["bert"], InputFormat("Pre", 24))
    assert maker.ids(["x", "y"], []) == maker.ids(["x", "y"], ["a", "b"])


def test_no_room(encoders):
    """Special tokens alone are no input."""
    with pytest.raises(UserError, match="--max_length_input 3: it leaves no room"):
        InputMaker(encoders["bert"], InputFormat("Pre", 3))
