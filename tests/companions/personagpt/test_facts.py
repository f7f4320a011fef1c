"""Where facts come from, and personas that are drawn."""

import random

import pytest

from companions.personagpt.dialogues import PersonaDialogue
from companions.personagpt.facts import ProfileDraws, facts_source
from companions.personagpt.prepared import read_persona_dialogues
from tests.companions.personagpt.golden import GOLDEN
from tests.companions.personagpt.talking import config_with
from utils.errors import UserError

DIALOGUES = str(GOLDEN / "preprocess" / "dialogues.txt")


def test_given_facts_are_taken_as_they_are(tmp_path):
    """Facts of the wrong source would answer for another persona."""
    config = config_with()
    path = tmp_path / "facts.txt"
    path.write_text("i ski.\n\ni cook.\n", encoding="utf-8")
    assert facts_source("i ski.; i cook.", None, config, None) == ["i ski.", "i cook."]
    assert facts_source(str(path), None, config, None) == ["i ski.", "i cook."]
    assert facts_source(None, None, config, None) is None


def test_mistakes_name_the_flag(tmp_path):
    """Two sources of which one is ignored in silence leave the user with facts that were not meant."""
    config = config_with()
    with pytest.raises(UserError, match="--facts and --profiles both"):
        facts_source("i ski.", DIALOGUES, config, None)
    with pytest.raises(UserError, match="--facts .*nothing.txt: no such file"):
        facts_source(str(tmp_path / "nothing.txt"), None, config, None)
    with pytest.raises(UserError, match="no persona line"):
        facts_source(" ; ", None, config, None)


def test_drawn_facts_are_one_whole_persona_and_follow_the_seed():
    """Facts mixed of two speakers contradict each other; without the seed no conversation can be repeated."""
    config = config_with()
    personas = {
        frozenset(facts) for dialogue in read_persona_dialogues(DIALOGUES, config) for facts in dialogue.facts
    }
    drawn = [facts_source(None, DIALOGUES, config, seed) for seed in (1, 1, 2, 3, 4)]
    assert drawn[0] == drawn[1]
    assert len({tuple(facts) for facts in drawn}) > 2
    assert all(frozenset(facts) in personas for facts in drawn)


def test_personas_of_the_wanted_size_are_drawn_in_shuffled_order():
    """The gym shows 3 to 5 facts in any order; a fixed one would let the LM learn the order of the file."""

    def dialogue(*facts):
        return PersonaDialogue((facts, ("i nap.", "i run.")), ("hi", "hello"), (0, 1), ("x:1", "x:1"), 2)

    five = ("a", "b", "c", "d", "e")
    draw = ProfileDraws([dialogue(*five), dialogue(*"abcdef")], 1, fewest=3, most=5)
    drawn = [tuple(draw()) for _ in range(20)]
    assert {frozenset(facts) for facts in drawn} == {frozenset(five)}
    assert len(set(drawn)) > 10
    with pytest.raises(UserError, match="x:1: no persona of this file has 7 to 9 facts"):
        ProfileDraws([dialogue(*five)], random.randrange(9), fewest=7, most=9)
