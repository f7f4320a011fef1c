"""Training examples of a profile against those of the release."""

import json
from itertools import cycle

import pytest

from companions.lamp.peft.examples import SHARES, profile_examples
from companions.lamp.peft.training import first_questions, share_of, user_seed
from companions.lamp.questions import parse_question
from companions.lamp.tasks import task_of
from tests.companions.lamp.golden import GOLDEN, cases, load


def _shares(case):
    listed = case.get("cut_shares", "0").split(", repeated")[0]
    return cycle(float(share) for share in listed.split(", "))


@pytest.mark.parametrize("path", cases("9_peft/*.json"))
def test_examples_are_those_of_the_release(path):
    """Adapters that learn another task than the release's cannot be compared with its figures."""
    case = load(path)
    task, shares = task_of(case["task"]), _shares(case)
    found = {
        question.user: [vars(example) for example in profile_examples(question, task, shares.__next__)]
        for question in first_questions(GOLDEN / case["questions"], task)
    }
    assert found == case["examples"]


@pytest.mark.parametrize("path", cases("9_peft/*.json"))
def test_a_later_question_of_a_user_is_not_trained_on(path, tmp_path):
    """A user whose questions share a profile is trained on it several times over."""
    case = load(path)
    appended = case["appended_question"]
    records = load(case["questions"])
    records.append({**records[0], "id": appended["id"], "user_id": appended["user_id"]})
    file = tmp_path / "questions.json"
    file.write_text(json.dumps(records), encoding="utf-8")
    found = list(first_questions(file, task_of(case["task"])))
    assert [question.user for question in found] == list(case["examples"])
    assert appended["id"] not in [question.id for question in found]


def test_a_tweet_is_cut_between_a_tenth_and_a_quarter():
    """A cut that is not seeded by the user trains another adapter in another order of the users."""
    record = {"id": "1", "input": "", "user_id": 5, "profile": [{"id": "11", "text": " a  b c d\n" * 25}]}
    question = parse_question(record, "here", "file", task_of("LaMP-7"))
    for user in ("5", "6", "7"):
        draw = share_of(user_seed(0, user))
        [example] = profile_examples(question, task_of("LaMP-7"), draw)
        head = example.source.removeprefix("Complete the following tweet: ").split()
        assert SHARES[0] * 100 <= len(head) <= SHARES[1] * 100
        assert [*head, *example.target.split()] == record["profile"][0]["text"].split()
        assert share_of(user_seed(0, user))() == share_of(user_seed(0, user))()
    assert len({share_of(user_seed(0, user))() for user in "567"}) == 3
