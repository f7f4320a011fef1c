"""Following of action codes: what is asked, what is counted, and that steering is what is measured."""

from dataclasses import replace

import pytest

from companions.personagpt import register_personagpt
from companions.personagpt.following import (
    interviewer_prompts,
    measure_following,
    openings_of,
    score_following,
)
from companions.personagpt.tokens import TextEncoder, special_ids
from dataset.dialogue import Example
from models.configuration import build_config
from models.decoding.generation import Reply
from tests.companions.personagpt.golden import GOLDEN, content
from tests.helpers import model_of
from utils.errors import UserError

GOALS_HERE = ("ask about pets.", "talk about music.")


@pytest.fixture(scope="module")
def model():
    """The LM of the golden cases."""
    register_personagpt()
    return model_of(
        build_config([("test", {"model": {"model_type": "personagpt", "model_name": str(GOLDEN / "lm")}})])
    )


def example(*context: str) -> Example:
    """An answer after these turns."""
    return Example(("i ski.",), context, "fine .", 0, len(context) // 2, "here:1")


def test_openings_are_what_the_interviewer_continues():
    """After an odd number of turns it is the other speaker's turn: the interviewer would answer its own question."""
    examples = [example(*[f"turn {number} ." for number in range(length)]) for length in range(12)]
    found = openings_of([*examples, *examples], 100, seed=1)
    assert sorted(map(len, found)) == [0, 2, 4, 6]
    assert len(openings_of(examples, 2, seed=1)) == 2
    assert openings_of(examples, 3, seed=1) == openings_of(examples[::-1], 3, seed=1)
    with pytest.raises(UserError, match="no dialogue"):
        openings_of([example("hi .")], 5, seed=1)


@pytest.mark.parametrize("variant", ["A", "B"])
def test_prompts_are_those_of_training(model, variant):
    """A prompt of another layout than the trained one would measure what the model makes of nonsense."""
    config = model.config.replaced({"model": {"action_prompt": variant}})
    expected = content(GOLDEN / "actions" / "expected.json")
    openings = [(), ("hi there", "hello !")]
    ids, text = special_ids(model.tokenizer), TextEncoder(model.tokenizer)
    turns = [*text("hi there"), ids.eos, *text("hello !"), ids.eos]
    for goal, prompt in zip(expected["actions"], expected[f"variant_{variant}"], strict=True):
        assert interviewer_prompts(openings, goal, model, config) == [prompt, prompt + turns]
    unsteered = [ids.p1, ids.sep, ids.start]
    assert interviewer_prompts(openings, None, model, config) == [unsteered, unsteered + turns]


def test_prompts_keep_within_the_limit(model):
    """A prompt beyond the LM's positions would end hours of evaluation with an index error."""
    config = model.config.replaced({"dataset": {"max_token_length": 20}})
    long = tuple(f"turn number {number} ." for number in range(6))
    (prompt,) = interviewer_prompts([long], GOALS_HERE[0], model, config)
    assert len(prompt) <= 20
    assert model.tokenizer.decode(prompt).endswith("turn number 5 .<|endoftext|>")
    with pytest.raises(UserError, match="longer than 5 tokens"):
        interviewer_prompts(
            [long], GOALS_HERE[0], model, config.replaced({"dataset": {"max_token_length": 5}})
        )


def test_shares_by_hand():
    """Replies counted for the goal beside theirs would show steering where there is none."""
    openings = [(), ("hi .", "hello ."), ("a .", "b .")]
    replies = ["do you have a dog ?", "i own a cat .", "hm .", "do you like music ?", "a dog .", "hm ."]
    replies += ["a dog .", "hm .", "hm ."]
    found = score_following(replies, openings, GOALS_HERE)
    third = pytest.approx(1 / 3)
    shares = [(score.steered, score.others, score.unsteered) for score in found.goals]
    assert shares == [(pytest.approx(2 / 3), third, third), (third, 0, 0)]
    assert (found.steered, found.others, found.unsteered) == (0.5, pytest.approx(1 / 6), pytest.approx(1 / 6))
    alone = score_following([*replies[:3], *replies[6:]], openings, GOALS_HERE[:1])
    assert (alone.others, alone.unsteered) == (None, third)
    assert found.openings == 3
    assert found.samples[1]["steered"] == {GOALS_HERE[0]: "i own a cat .", GOALS_HERE[1]: "a dog ."}
    assert found.samples[1]["unsteered"] == "hm ."


def test_every_opening_is_replied_to_for_every_goal(model, distributed):
    """A reply under another's number would be held to another goal."""
    openings = [(), ("hi there", "hello !"), ("how are you ?", "i am fine .")]
    config = model.config.replaced({"decoding": {"max_new_tokens": 5}})
    batched = measure_following(model, config, openings, GOALS_HERE, 4, 1, distributed)
    single = measure_following(model, config, openings, GOALS_HERE, 1, 1, distributed)
    assert sorted(batched) == list(range(9))
    assert batched == single


def test_a_model_that_is_steered_scores_above_chance(model, distributed, monkeypatch):
    """A measure that is the same for steered and unsteered replies would say nothing."""
    words = dict(zip(GOALS_HERE, (" dogs", " music"), strict=True))
    text = TextEncoder(model.tokenizer)
    steering = {text(goal)[-2]: text(word)[0] for goal, word in words.items()}

    def generate(model, batch, *_, **__):
        found = [
            next((word for goal, word in steering.items() if goal in row), 0)
            for row in batch.input_ids.tolist()
        ]
        return [Reply(model.tokenizer.decode([word]), None, None) for word in found]

    monkeypatch.setattr("companions.personagpt.following.generate_replies", generate)
    openings = [(), ("hi there", "hello !")]
    replies = measure_following(model, model.config, openings, GOALS_HERE, 4, 1, distributed)
    found = score_following([replies[number] for number in range(6)], openings, GOALS_HERE)
    assert (found.steered, found.unsteered) == (1, 0)


def test_ranks_share_the_replies(model, distributed):
    """A reply that no rank made would move all later ones to other goals."""
    openings = [(), ("hi there", "hello !")]
    config = model.config.replaced({"decoding": {"max_new_tokens": 3}})
    whole = measure_following(model, config, openings, GOALS_HERE, 2, 1, distributed)
    shares = [
        measure_following(model, config, openings, GOALS_HERE, 2, 1, replace(distributed, rank=rank, size=2))
        for rank in (0, 1)
    ]
    assert sorted([*shares[0], *shares[1]]) == list(range(6))
    assert {**shares[0], **shares[1]} == whole
