"""The embedded sample: it can be made again, it is well formed, and its responses depend on the persona."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from pathlib import Path

import pytest

from data_file.sample import generate

SAMPLE = Path(generate.__file__).resolve().parent
NAMES = (generate.TRAIN_NAME, generate.VALID_NAME)
# Words that say nothing about a persona; the topic texts use few others of this kind.
COMMON_TEXT = """
a an the i you me my your it is am are do does have has to of in on at for and so not no yes like love very
really too with that this what how be can all now up by from or well oh hi hello hey bye good great nice was
thanks fine thank right every day days time lot most some there best favorite
"""
COMMON = frozenset(COMMON_TEXT.split())

Dialogue = tuple[list[str], list[tuple[str, str]]]


def read_dialogues(name: str) -> list[Dialogue]:
    """Read a file from the format's description alone: a number of 1 opens a dialogue."""
    dialogues: list[Dialogue] = []
    expected = 1
    for line in (SAMPLE / name).read_bytes().decode("utf-8").split("\n")[:-1]:
        number, text = line.split(" ", 1)
        if number == "1":
            dialogues.append(([], []))
            expected = 1
        assert int(number) == expected
        expected += 1
        persona, turns = dialogues[-1]
        if text.startswith("your persona: "):
            assert not turns
            persona.append(text.removeprefix("your persona: "))
        else:
            partner, response = text.split("\t")
            turns.append((partner, response))
    return dialogues


@pytest.fixture(scope="module")
def train() -> list[Dialogue]:
    """Training dialogues as they are on disk."""
    return read_dialogues(generate.TRAIN_NAME)


@pytest.fixture(scope="module")
def valid() -> list[Dialogue]:
    """Validation dialogues as they are on disk."""
    return read_dialogues(generate.VALID_NAME)


def content_words(texts: list[str]) -> list[str]:
    """Split into the words that carry content."""
    words = " ".join(texts).replace(".", " ").split()
    return [word for word in words if word[0].isalnum() and word not in COMMON]


def persona_share(persona: list[str], turns: list[tuple[str, str]]) -> float:
    """Share of the responses' content words that stand in the persona."""
    known = set(content_words(persona))
    said = content_words([response for _, response in turns])
    return sum(word in known for word in said) / max(1, len(said))


def test_files_are_what_the_generator_makes():
    """Prevents files edited by hand, or a generator changed without writing its files again."""
    for name, text in generate.make_files().items():
        assert (SAMPLE / name).read_bytes() == text.encode("utf-8")


def test_generator_depends_on_its_seed_only():
    """Prevents hidden state: a second run must equal the first, whatever else drew numbers before."""
    first = generate.make_files()
    random.seed(99)
    random.random()
    assert generate.make_files() == first
    assert generate.make_files(generate.SEED + 1) != first


def test_check_notices_a_difference(tmp_path, capsys):
    """Prevents a --check that passes on changed or missing files, or that repairs what it should report."""
    out = ["--out", str(tmp_path)]
    assert generate.main([*out, "--check"]) == 1
    assert generate.main(out) == 0
    assert generate.main([*out, "--check"]) == 0
    changed = tmp_path / generate.VALID_NAME
    changed.write_bytes(changed.read_bytes() + b"1 more\n")
    before = changed.read_bytes()
    assert generate.main([*out, "--check"]) == 1
    assert changed.read_bytes() == before
    assert "differs" in capsys.readouterr().err


def test_counts(train, valid):
    """Prevents a sample too small for training, or dialogues outside the promised shape."""
    assert len(train) >= 400
    assert len(valid) >= 60
    for persona, turns in train + valid:
        assert len(persona) in (4, 5)
        assert len(set(persona)) == len(persona)
        assert 6 <= len(turns) <= 8


@pytest.mark.parametrize("name", NAMES)
def test_text_format(name):
    """Prevents spellings that a ConvAI2 reader or tokenizer would see as other text."""
    data = (SAMPLE / name).read_bytes()
    assert data.endswith(b"\n")
    assert b"\r" not in data
    assert b"\n\n" not in data
    text = data.decode("utf-8")
    assert "{" not in text
    assert "|" not in text
    for persona, turns in read_dialogues(name):
        for line in persona:
            assert line == line.lower() == " ".join(line.split())
            assert line.endswith(".")
            assert line[-2].isalnum()
        for partner, response in turns:
            spoken = [response] if partner == generate.SILENCE else [partner, response]
            for utterance in spoken:
                assert utterance == utterance.lower() == " ".join(utterance.split())
                assert utterance.endswith((" .", " ?", " !"))
                assert all(token.isalnum() or token in ".?!," for token in utterance.split())


def test_lengths(train, valid):
    """Prevents dialogues too long for a tiny model's context and responses that are stubs or speeches."""
    for persona, turns in train + valid:
        for _, response in turns:
            assert 5 <= generate.count_words(response) <= generate.MAX_RESPONSE_WORDS
        utterances = [text for turn in turns for text in turn]
        assert len(" ".join(persona + utterances).split()) <= 220
        assert generate.count_words(" ".join(persona + utterances)) <= 200


def test_vocabulary_is_small(train, valid):
    """Prevents words that a tiny model never learns: validation brings in no word unseen in training."""

    def words(dialogues: list[Dialogue]) -> set[str]:
        texts = [
            text for persona, turns in dialogues for text in [*persona, *(t for turn in turns for t in turn)]
        ]
        return set(" ".join(texts).replace(".", " ").split())

    assert 500 <= len(words(train)) <= 1200
    assert words(valid) <= words(train)


def test_some_dialogues_are_opened_by_the_speaker(train, valid):
    """Prevents a sample without the silence mark, or with the mark anywhere but in the first turn."""
    for dialogues in (train, valid):
        opened = sum(turns[0][0] == generate.SILENCE for _, turns in dialogues)
        assert 0.01 <= opened / len(dialogues) <= 0.1
        assert all(partner != generate.SILENCE for _, turns in dialogues for partner, _ in turns[1:])


def test_validation_personas_are_new(train, valid):
    """Prevents a validation score that rewards remembering a training persona."""
    known = {frozenset(persona) for persona, _ in train}
    assert all(frozenset(persona) not in known for persona, _ in valid)
    assert len({frozenset(persona) for persona, _ in valid}) == len(valid)


def test_validation_holds_pairs_that_training_lacks():
    """Prevents validation personas that only rewrite a training persona in other words."""
    train_cases, valid_cases = generate.make_cases()
    known = set().union(*(generate.value_pairs(persona) for persona, _ in train_cases))
    assert all(generate.value_pairs(persona) - known for persona, _ in valid_cases)
    train_values = {(trait.topic, trait.value) for persona, _ in train_cases for trait in persona}
    valid_values = {(trait.topic, trait.value) for persona, _ in valid_cases for trait in persona}
    assert valid_values <= train_values


def test_topics_are_many_and_complete():
    """Prevents a topic that lost values or wordings, or a reply that no longer repeats its value."""
    topics = generate.load_topics()
    assert len(topics) >= 12
    for topic in topics.values():
        assert len({value.text for value in topic.values}) == len(topic.values) >= 8
        assert {
            key: len(topic.wordings[key]) >= least
            for key, least in zip("PQANTFS", (4, 3, 4, 2, 2, 3, 3), strict=True)
        }
        assert all("{v}" in wording for key in "PAT" for wording in topic.wordings[key])
        for value in topic.values:
            wanted = set(content_words([value.text]))
            for reply in (value.first, value.second):
                assert wanted <= set(reply.split()), (topic.name, value.text, reply)


def test_responses_come_from_the_own_persona(train, valid):
    """Prevents responses that would fit any speaker: the own persona must explain more than a foreign one."""
    for dialogues in (train, valid):
        own = [persona_share(persona, turns) for persona, turns in dialogues]
        others = dialogues[1:] + dialogues[:1]
        foreign = [
            persona_share(persona, turns) for (persona, _), (_, turns) in zip(others, dialogues, strict=True)
        ]
        assert sum(own) / len(own) >= 0.25
        assert sum(own) >= 2.5 * sum(foreign)
        assert min(own) > 0


def test_another_persona_gives_other_responses():
    """Prevents a skeleton that carries the persona's values itself."""
    cases, _ = generate.make_cases()
    for at, (persona, skeleton) in enumerate(cases[:200]):
        shifted = tuple(replace(trait, value=(trait.value + 1) % 10) for trait in persona)
        stranger = cases[at + 1][0]
        for other in (shifted, stranger):
            before = [response for _, response in generate.render(skeleton, persona)]
            after = [response for _, response in generate.render(skeleton, other)]
            assert len(after) == len(before)
            changed = sum(old != new for old, new in zip(before, after, strict=True))
            assert changed >= 2
    assert {field.name for field in fields(generate.Slot)}.isdisjoint({"value", "trait", "persona"})


def test_missing_topic_is_denied():
    """Prevents a speaker who claims what the persona does not say."""
    trait = generate.Trait("pets", 0, 0)
    skeleton = (generate.Slot("ask", "pets"), generate.Slot("ask", "job"))
    (_, held), (_, missing) = generate.render(skeleton, (trait,))
    assert "two cats" in held
    assert missing in generate.load_topics()["job"].wordings["N"]


def test_partner_never_tells_the_value_of_the_persona():
    """Prevents turns that a model can answer by repeating the partner instead of reading the persona."""
    for value in range(10):
        for told in range(20):
            trait = generate.Trait("pets", value, 0)
            [(partner, _)] = generate.render((generate.Slot("tell", "pets", told=told),), (trait,))
            assert generate.load_topics()["pets"].values[value].text not in partner


def test_missing_topics_are_a_minority(train):
    """Prevents a sample in which denying everything is a good guess."""
    denials = {wording for topic in generate.load_topics().values() for wording in topic.wordings["N"]}
    responses = [response for _, turns in train for _, response in turns]
    assert 0.08 <= sum(response in denials for response in responses) / len(responses) <= 0.22
