"""PersonaGPT's sequences of any texts, for tokenizers of every kind: what is trained is the answer and its end."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companions.personagpt.prompts import PersonaEncoder
from companions.personagpt.settings import PersonaConfig
from companions.personagpt.tokens import ADDED, add_special_tokens
from dataset.dialogue import Example
from tests.hunted import judged, spoken
from tests.made_tokenizers import BYTES, MAKERS, made_tokenizer, pieces

CONFIG = PersonaConfig(
    model={"model_type": "personagpt", "model_name": "none"}, dataset={"max_token_length": 10**5}
)
smuggled = st.sampled_from([*ADDED, "</s>", "<s>", "<unk>"]).map("a {} b".format)
texts = spoken | smuggled


@cache
def _encoder(kind):
    tokenizer = made_tokenizer(kind)
    add_special_tokens(tokenizer)
    return PersonaEncoder(tokenizer, CONFIG), tokenizer


@pytest.mark.parametrize("kind", MAKERS)
@given(facts=st.lists(texts, max_size=3), turns=st.lists(texts, max_size=4), answer=texts)
def test_positions(survived, kind, facts, turns, answer):
    """A special token that a text smuggles in ends a turn or opens a persona; a border beside it trains the prompt."""
    encoder, tokenizer = _encoder(kind)
    ids = encoder.ids
    one = Example(tuple(facts), tuple(turns), answer, 0, 0, "a.txt:1")
    (train,), (inference,) = (
        encoder.encode([one], with_response=True),
        encoder.encode([one], with_response=False),
    )
    ((start, end),) = train.targets
    assert end == len(train.ids)
    assert train.ids[:start].tolist() == inference.ids.tolist()
    assert train.ids[-1] == ids.eos
    opening = not turns
    assert (train.ids[start] == ids.start) == opening
    if kind in BYTES:
        assert pieces(tokenizer, train.ids[start + opening : -1]) == answer
    counts = [
        train.ids.tolist().count(token)
        for token in (ids.eos, ids.sep, ids.start, ids.p1 if len(turns) % 2 else ids.p2)
    ]
    assert counts == [len(facts) + len(turns) + 1, 1, 1, 0]
    survived("bad inputs")


@given(turns=st.lists(texts, min_size=1, max_size=6), room=st.integers(5, 60))
def test_the_newest_turns_stay(turns, room):
    """A turn that is cut in its middle, or dropped from the wrong end, answers something that was not said."""
    encoder = PersonaEncoder(_encoder("byte-level BPE")[1], CONFIG)
    encoder.max_tokens = room
    one = Example(("i ski .",), tuple(turns), "hi", 0, 0, "a.txt:1")
    encoded = judged(lambda: encoder.encode([one], with_response=True), "a.txt:1: ")
    if encoded is None:
        return
    (found,) = encoded
    assert len(found.ids) <= room
    said = found.ids[: found.query_end].tolist()
    said = said[said.index(encoder.ids.start) + 1 :]
    kept = next(
        turns[first:]
        for first in range(len(turns))
        if sum(len(encoder.turn(turn)) for turn in turns[first:]) == len(said)
    )
    assert said == [token for turn in kept for token in encoder.turn(turn)]
