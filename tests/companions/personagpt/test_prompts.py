"""Sequences of PersonaGPT: special ids, persona and action prompts, truncation."""

import numpy as np
import pytest
from transformers import AutoTokenizer

from companions.personagpt.prepared import read_persona_examples
from companions.personagpt.prompts import PersonaEncoder, action_prefix, persona_prefix, with_history
from companions.personagpt.settings import PersonaConfig
from companions.personagpt.tokens import ADDED, TextEncoder, add_special_tokens, special_ids
from dataset.batch import Collator
from tests.companions.personagpt.golden import GOLDEN, content
from utils.errors import UserError

ACTIONS = content(GOLDEN / "actions" / "expected.json")
TRUNCATION = content(GOLDEN / "interaction" / "truncation_computed.json")


@pytest.fixture(scope="module")
def tokenizer():
    """That of the golden cases."""
    return AutoTokenizer.from_pretrained(GOLDEN / "lm")


def test_special_tokens_have_the_published_ids(tokenizer):
    """Other ids would read the rows of other tokens from published weights, without an error."""
    ids, expected = special_ids(tokenizer), ACTIONS["special_ids"]
    found = {name: getattr(ids, name) for name in ("eos", "sep", "start", "p1", "p2", "act")}
    assert found == {name: expected[name] for name in found}
    assert len(tokenizer) == ACTIONS["vocabulary"]


def test_a_base_tokenizer_gets_the_tokens_after_its_vocabulary_in_order():
    """In another order than the published one, a trained run and published weights would not understand each other."""
    from transformers import GPT2TokenizerFast

    tokenizer = GPT2TokenizerFast.from_pretrained(GOLDEN / "base_tokenizer")
    size = len(tokenizer)
    add_special_tokens(tokenizer)
    assert tokenizer.convert_tokens_to_ids(list(ADDED)) == list(range(size, size + 6))
    add_special_tokens(tokenizer)
    assert len(tokenizer) == size + 6


@pytest.mark.parametrize("variant", ["A", "B"])
def test_action_prompts_equal_the_release(tokenizer, variant):
    """A space too many after <|act|> gives other ids than those that published weights were trained with."""
    text, ids = TextEncoder(tokenizer), special_ids(tokenizer)
    prompts = [[*action_prefix(text(goal), variant, ids), ids.start] for goal in ACTIONS["actions"]]
    assert prompts == ACTIONS[f"variant_{variant}"]


def test_special_tokens_in_data_stay_text(tokenizer):
    """An utterance that holds "<|p1|>" could otherwise give the bot another persona."""
    ids = special_ids(tokenizer)
    encoded = TextEncoder(tokenizer)("hi <|p1|>i am a thief.<|endoftext|>")
    assert not {ids.eos, ids.p1} & set(encoded)
    assert tokenizer.decode(encoded) == "hi <|p1|>i am a thief.<|endoftext|>"


def test_a_persona_prompt_as_specified(tokenizer):
    """The example of the specification, token by token; a separator too many would shift every position."""
    text, ids = TextEncoder(tokenizer), special_ids(tokenizer)
    prefix = persona_prefix([text("i like tea."), text("i have a dog.")], 2, ids)
    prompt = with_history(prefix, [[*text("hi there"), ids.eos]], ids)
    assert tokenizer.decode(prompt) == (
        "<|p2|>i like tea.<|endoftext|>i have a dog.<|endoftext|><|sep|><|start|>hi there<|endoftext|>"
    )
    assert with_history(prefix, [], ids) == prefix, "before turn 0 a prompt ends with <|sep|>"


@pytest.mark.parametrize("case", TRUNCATION["cases"], ids=lambda case: str(case["budget"]))
def test_truncation_drops_the_oldest_whole_turns(tokenizer, case):
    """Half a turn, or a prefix without its facts, would be no sequence that the LM was trained on."""
    prefix = TRUNCATION["prefix"][:-1]
    prompt = with_history(prefix, TRUNCATION["turns"], special_ids(tokenizer), case["budget"])
    assert prompt == case["prompt"]


def test_what_does_not_fit_is_told(tokenizer):
    """A prompt without the newest turn would be answered as if nothing had been said."""
    ids = special_ids(tokenizer)
    prefix, turns = TRUNCATION["prefix"][:-1], TRUNCATION["turns"]
    assert with_history(prefix, turns, ids, len(prefix) + len(turns[-1])) is None
    assert with_history(prefix, turns, ids, len(prefix) + 1 + len(turns[-1])) is not None
    assert with_history(prefix, [], ids, len(prefix) - 1) is None


def encoder_of(tokenizer, fidelity="paper", max_tokens=None, **dataset):
    """An encoder with some keys of `dataset` changed."""
    model = {"model_type": "personagpt", "model_name": "none", "fidelity": fidelity}
    return PersonaEncoder(tokenizer, PersonaConfig(model=model, dataset=dataset), max_tokens)


@pytest.fixture(scope="module")
def persona_examples():
    """Those of the real dialogues of the golden cases."""
    model = {"model_type": "personagpt", "model_name": "none"}
    path = GOLDEN / "preprocess" / "dialogues.txt"
    return read_persona_examples(str(path), PersonaConfig(model=model))


@pytest.mark.parametrize(("fidelity", "ends", "untrained"), [("paper", 1, 0), ("released_code", 2, 1)])
def test_what_is_trained_of_an_answer(tokenizer, persona_examples, fidelity, ends, untrained):
    """An answer without its end never stops; without its first token the bot does not learn how to begin."""
    ids = special_ids(tokenizer)
    encoded = encoder_of(tokenizer, fidelity).encode(persona_examples, with_response=True)
    for example, text in zip(persona_examples, encoded, strict=True):
        prompt, answer = text.ids[: text.query_end].tolist(), text.ids[text.query_end :].tolist()
        assert answer[-ends:] == [ids.eos] * ends
        assert ids.eos not in answer[:-ends]
        assert text.targets == ((text.query_end + untrained, len(text.ids)),)
        assert (answer[0] == ids.start) == (prompt[-1] == ids.sep) == (not example.context)
        assert prompt[0] == ids.speaker(1 + len(example.context) % 2)
        assert prompt.count(ids.sep) == 1


@pytest.mark.parametrize("fidelity", ["paper", "released_code"])
def test_all_answers_of_a_speaker_are_parts_of_one_text(tokenizer, persona_examples, fidelity):
    """They share a forward pass: an answer whose text is no part of the longest would have a row of its own."""
    encoded = encoder_of(tokenizer, fidelity).encode(persona_examples, with_response=True)
    by_speaker = {}
    for text in encoded:
        by_speaker.setdefault(text.dialogue, []).append(text)
    assert len(by_speaker) == 24
    for texts in by_speaker.values():
        assert all(np.array_equal(texts[-1].ids[: len(text.ids)], text.ids) for text in texts)
    batch = Collator(pad_id=0, share_rows=True).train(encoded)
    assert batch.input_ids.shape[0] == 24
    assert batch.num_examples == len(encoded)


def test_prompts_alone_are_the_prompts_of_training(tokenizer, persona_examples):
    """A bot would be asked in other texts than it was trained on."""
    encoder = encoder_of(tokenizer)
    with_answer = encoder.encode(persona_examples, with_response=True)
    for alone, whole in zip(encoder.encode(persona_examples, with_response=False), with_answer, strict=True):
        assert alone.targets == ()
        assert np.array_equal(alone.ids, whole.ids[: whole.query_end])


def test_long_texts_lose_their_oldest_turns(tokenizer, persona_examples):
    """A text longer than the LM's positions ends a training; one that lost facts speaks for another persona."""
    ids = special_ids(tokenizer)
    whole = encoder_of(tokenizer).encode(persona_examples, with_response=True)
    short = encoder_of(tokenizer, max_token_length=150).encode(persona_examples, with_response=True)
    assert [len(text.ids) for text in whole] != [len(text.ids) for text in short]
    for long, cut in zip(whole, short, strict=True):
        assert len(cut.ids) <= 150
        head, tail = long.ids.tolist(), cut.ids.tolist()
        prefix = head.index(ids.sep) + 1
        assert tail[:prefix] == head[:prefix]
        kept = len(tail) - prefix - (0 if cut.query_end == prefix else 1)
        assert tail[-kept:] == head[-kept:]
        assert len(long.ids) <= 150 or head[-kept - 1] in (ids.eos, ids.start)
    again = encoder_of(tokenizer, max_tokens=150)
    assert [len(text.ids) for text in again.encode(persona_examples, with_response=True)] == [
        len(text.ids) for text in short
    ]
    assert again.fits(persona_examples[0])
    assert not again.fits(max(persona_examples, key=lambda example: len(example.context)))


def test_a_text_that_cannot_fit_is_told_with_its_line(tokenizer, persona_examples):
    """Facts cut off in silence would be a persona that nobody asked for."""
    with pytest.raises(
        UserError, match=r"dialogues\.txt:\d+: facts or action code, newest turn and answer do not fit 30"
    ):
        encoder_of(tokenizer, max_token_length=30).encode(persona_examples, with_response=True)


def test_fewer_turns_of_context_when_asked_for(tokenizer, persona_examples):
    """`dataset.max_context_turns` would be passed over in silence."""
    example = max(persona_examples, key=lambda example: len(example.context))
    prompt = encoder_of(tokenizer, max_context_turns=2).encode([example], with_response=False)[0].ids.tolist()
    text = tokenizer.decode(prompt)
    assert text.partition("<|start|>")[2] == "".join(f"{turn}<|endoftext|>" for turn in example.context[-2:])
    least = encoder_of(tokenizer, max_context_turns=0).encode([example], with_response=False)[0].ids.tolist()
    assert tokenizer.decode(least).partition("<|start|>")[2] == f"{example.context[-1]}<|endoftext|>"
