"""The sample of PersonaGPT: it can be made again, it is well formed, and what it says depends on facts and codes."""

import csv
import random
import re

import pytest

from companions.personagpt.actions import GOALS, follows
from companions.personagpt.sample import generate
from companions.personagpt.tokens import ADDED, EOS_TEXT
from dataset.dialogue import PARTNER, SELF
from dataset.readers import read_dialogues

DIALOGUES = (generate.TRAIN_NAME, generate.VALID_NAME)
ACTIONS = (generate.ACTIONS_NAME, generate.VALID_ACTIONS_NAME)


def action_rows(name: str) -> list[dict[str, str]]:
    """The rows of a CSV file of the sample."""
    with (generate.FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_files_are_what_the_generator_makes():
    """Files edited by hand are lost the next time that somebody runs the generator."""
    files = generate.make_files()
    assert set(files) == {*DIALOGUES, *ACTIONS}
    for name, text in files.items():
        assert (generate.FOLDER / name).read_bytes() == text.encode("utf-8")
    assert sum(map(len, files.values())) < 300_000, "everybody who clones the project loads them"


def test_the_generator_depends_on_its_seed_only():
    """State from elsewhere would give other files on another machine."""
    first = generate.make_files()
    random.seed(99)
    assert generate.make_files() == first
    assert generate.make_files(generate.SEED + 1) != first


def test_check_notices_a_difference(tmp_path, capsys):
    """A check that passes on changed files, or that repairs what it should report, checks nothing."""
    out = ["--out", str(tmp_path)]
    assert generate.main([*out, "--check"]) == 1
    assert generate.main(out) == 0
    assert generate.main([*out, "--check"]) == 0
    changed = tmp_path / generate.VALID_NAME
    changed.write_bytes(changed.read_bytes() + b"1 more\n")
    assert generate.main([*out, "--check"]) == 1
    assert "differs" in capsys.readouterr().err


@pytest.mark.parametrize("name", DIALOGUES)
def test_both_speakers_have_facts_and_take_turns(name):
    """A dialogue that fails the reader's rules would be left out of the demo, or run into the next one."""
    found = read_dialogues(generate.FOLDER / name, "convai2")
    assert len(found) >= 20
    for dialogue in found:
        assert {len(dialogue.personas[speaker]) for speaker in (SELF, PARTNER)} <= {4, 5}
        assert 7 <= len(dialogue.utterances) <= 12
        for utterance in dialogue.utterances:
            assert re.fullmatch(r"__SILENCE__|[a-z]+( [a-z]+|( [.,?!]))*", utterance.text), utterance.text


def test_what_is_told_is_a_fact_of_the_one_who_tells_it():
    """A model could not learn to speak for its persona from a speaker who speaks for the other one."""
    told = 0
    for dialogue in read_dialogues(generate.FOLDER / generate.TRAIN_NAME, "convai2"):
        facts = {speaker: {fact[:-1] for fact in dialogue.personas[speaker]} for speaker in (SELF, PARTNER)}
        for utterance in dialogue.utterances:
            other = PARTNER if utterance.speaker == SELF else SELF
            own = [fact for fact in facts[utterance.speaker] if f" {fact} ." in utterance.text]
            told += len(own)
            foreign = [fact for fact in facts[other] if f" {fact} ." in utterance.text]
            assert set(foreign) <= set(own)
    assert told > 500


def test_some_training_dialogues_stand_there_from_both_sides():
    """Without a copy, the demo would have nothing to show of how duplicates are dropped."""
    text = (generate.FOLDER / generate.TRAIN_NAME).read_text(encoding="utf-8")
    copies = re.findall(r"^\d+ __SILENCE__\t(.+)$", text, re.MULTILINE)
    assert len(copies) == generate.TRAIN_DIALOGUES // generate.TWIN_EVERY
    assert all(re.search(rf"^\d+ {re.escape(opening)}\t", text, re.MULTILINE) for opening in copies)


@pytest.mark.parametrize("name", ACTIONS)
def test_action_rows_have_the_form_of_variant_b(name):
    """A layout that the model is not asked with later would be learned for nothing."""
    rows = action_rows(name)
    per_goal = generate.ACTIONS_PER_GOAL if name == generate.ACTIONS_NAME else generate.VALID_ACTIONS_PER_GOAL
    assert len(rows) == per_goal * len(generate.load_topics())
    lengths = set()
    for row in rows:
        opened = re.fullmatch(
            r"<\|act\|>([^<]+)<\|sep\|><\|p1\|><\|sep\|>(<\|start\|>.+)?", row["context"], re.DOTALL
        )
        assert opened[1] in generate.load_topics()
        # at the first turn the history begins in the reply
        assert bool(opened[2]) != row["response"].startswith("<|start|>")
        assert row["response"].endswith(EOS_TEXT)
        assert row["response"].count(EOS_TEXT) == 1
        lengths.add((opened[2] or "").count(EOS_TEXT))
        assert set(re.findall(r"<\|\w+\|>", row["context"] + row["response"])) <= {*ADDED, EOS_TEXT}
    assert lengths <= {0, 2, 4, 6}, "the one who follows a code opens the dialogue"
    assert len(lengths) > 1


@pytest.mark.parametrize("name", ACTIONS)
def test_replies_follow_their_codes_and_no_others(name):
    """The demo's share of replies that follow would not be of what the sample teaches."""
    for row in action_rows(name):
        goal = row["context"].removeprefix("<|act|>").partition("<|")[0]
        followed = [other for other in GOALS if follows(row["response"].removesuffix(EOS_TEXT), other)]
        assert followed == [goal], row["response"]
