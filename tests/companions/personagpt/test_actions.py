"""Goals: the eleven of PersonaGPT and those of a file, by number and phrase; when a reply follows one."""

import pytest

from companions.personagpt.actions import (
    GOALS,
    follows,
    goal_by_number,
    goal_by_phrase,
    goals_in,
    keywords_of,
)
from tests.companions.personagpt.golden import GOLDEN, content
from utils.errors import UserError


def test_the_goals_have_the_published_numbers():
    """Under another number or phrase the published weights are asked for something else."""
    assert list(GOALS) == content(GOLDEN / "actions" / "expected.json")["actions"]
    assert goals_in(None) == GOALS


@pytest.mark.parametrize(
    "text", ["-1", "11", "x", "", " ", "1.0", "+1", "1_0", "\u0663", "\u00b2", "9" * 5000], ids=ascii
)
def test_what_is_no_number_of_a_goal_is_refused(text):
    """-1 would be the last of a list in Python, and steer the talk to politics."""
    assert goal_by_number(text) is None


def test_numbers_of_goals():
    """A list counted from 1 would give the goal beside the one that was asked for."""
    assert [goal_by_number(str(number)) for number in range(11)] == list(GOALS)
    assert goal_by_number(" 10 ") == "talk about politics."
    assert goal_by_number("1", ("a", "b")) == "b"
    assert goal_by_number("2", ("a", "b")) is None


@pytest.mark.parametrize(
    ("phrase", "goal"),
    [
        ("ask about pets.", "ask about pets."),
        ("Ask  about pets", "ask about pets."),
        ("ask about family.", "ask about kids."),
        ("talk about traveling", "talk about travel."),
        ("talk about hobbies.", "ask about hobbies."),
        ("talk about food", "ask about favorite food."),
    ],
)
def test_phrases_of_goals(phrase, goal):
    """Words of the documentation would be refused, or be a code that was never trained."""
    assert goal_by_phrase(phrase) == goal


def test_an_unknown_phrase_is_told_with_the_nearest():
    """A misspelt goal would steer nothing, and the reply be blamed on the model."""
    with pytest.raises(
        UserError, match=r"the goal 'ask about pest' is not in the list; did you mean 'ask about pets\.'"
    ):
        goal_by_phrase("ask about pest")
    with pytest.raises(UserError, match=r"not in the list; valid: talk about pokemon\."):
        goal_by_phrase("kids", ("talk about pokemon.",))


def test_goals_of_a_file(tmp_path):
    """A phrase lost with an odd last line would shift what is asked for."""
    path = tmp_path / "goals.txt"
    path.write_bytes("\ufefftalk about pok\u00e9mon.\r\nask about favorite anime.".encode())
    assert goals_in(path) == ("talk about pok\u00e9mon.", "ask about favorite anime.")
    path.write_bytes(b"talk about tea.\n")
    assert goals_in(path) == ("talk about tea.",)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"a.\n\nb.\n", "goals.txt:2: the line is empty"),
        (b"a.\nb.\nA\n", "goals.txt:3: the goal 'A' is line 1 already"),
        (b"a.\n<|sep|>b.\n", "goals.txt:2: a goal is plain text"),
        (b"a.\n\xff\n", "goals.txt:2: not UTF-8"),
        (b"", "file of goals is empty"),
        (b"\n \n", "the file holds blank lines only"),
    ],
)
def test_a_fault_of_a_file_of_goals_is_told(tmp_path, content, fault):
    """The numbers of the goals after an empty line or a double would be others than their lines say."""
    path = tmp_path / "goals.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=fault):
        goals_in(path)


@pytest.mark.parametrize(
    ("goal", "reply"),
    [
        ("ask about kids.", "do you have children ?"),
        ("ask about pets.", "I have 2 Dogs!"),
        ("talk about work.", "what do you do for a living?"),
        ("ask about marital status.", "are you married ?"),
        ("talk about travel.", "i love traveling . have you been to spain ?"),
        ("ask about age and gender.", "how old are you ?"),
        ("ask about hobbies.", "what do you do for fun ?"),
        ("ask about favorite food.", "pizza is the best"),
        ("talk about movies.", "seen any good movies ?"),
        ("talk about music.", "who is your favorite singer ?"),
        ("talk about politics.", "did you vote ?"),
        ("talk about board games.", "i play a game"),
        ("ask about favorite anime.", "Anime is fun"),
        ("talk about it.", "talk about it ."),
    ],
)
def test_replies_that_follow_a_goal(goal, reply):
    """The measure would say that steering fails where it works."""
    assert follows(reply, goal)


@pytest.mark.parametrize(
    ("goal", "reply"),
    [
        ("ask about pets.", "hello , how are you ?"),
        ("ask about pets.", "i am a petty man"),
        ("ask about kids.", "you are kidding"),
        ("ask about age and gender.", "i am old"),
        ("ask about favorite anime.", "what is your favorite ?"),
        ("talk about politics.", "outlaws"),
        ("talk about music.", ""),
    ],
)
def test_replies_that_do_not_follow_a_goal(goal, reply):
    """A keyword inside another word, or half of one, would count, and every steering look good."""
    assert not follows(reply, goal)


def test_keywords_of_goals():
    """The rule that is written down must be the one that counts."""
    assert keywords_of("talk about board games.") == ("board*", "game*")
    assert "how old" in keywords_of("ask about age and gender.")
    assert all(len(set(keywords_of(goal))) == len(keywords_of(goal)) for goal in GOALS)
    assert all(word.rstrip("*").replace(" ", "").isalpha() for goal in GOALS for word in keywords_of(goal))
