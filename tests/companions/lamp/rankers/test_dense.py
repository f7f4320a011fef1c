"""Dense retrieval: the same scores as one text at a time, and exact ties."""

import pytest
import torch

from companions.lamp.rankers.dense import dense_scores

PROFILES = [
    ["The warm baker kneads the dough.", "", "The warm baker kneads the dough. " * 30, "the oven"],
    [],
    ["A rusty robot.", "The warm baker kneads the dough.", "A rusty robot. ", "sea"],
]
QUERIES = ["the baker", "nobody", "the robot at sea"]


def one_at_a_time(encoder, query, document):
    """The dot product as Contriever's authors describe it, without padding."""
    vectors = []
    for text in (query, document):
        inputs = encoder.tokenizer(text, truncation=True, max_length=encoder.max_length, return_tensors="pt")
        with torch.no_grad():
            vectors.append(encoder.model(**inputs).last_hidden_state[0].mean(dim=0))
    return float(vectors[0] @ vectors[1])


@pytest.mark.parametrize("batch_size", [1, 16])
def test_batches_over_users_change_no_score(encoder, batch_size):
    """Padding that enters the mean, or a vector that goes to a neighbour's profile, would rank by other texts."""
    found = dense_scores(encoder, QUERIES, PROFILES, batch_size)
    expected = [
        [one_at_a_time(encoder, query, text) for text in profile]
        for query, profile in zip(QUERIES, PROFILES, strict=True)
    ]
    assert [scores.tolist() for scores in found] == [pytest.approx(row, abs=2e-5) for row in expected]


def test_equal_documents_have_equal_scores(encoder):
    """A last bit that differs between batches would decide their order instead of the stated rule."""
    texts = [f"the {word}" for word in "oven sea dough robot baker hill".split()] * 20
    (scores,) = dense_scores(encoder, ["warm dough"], [[*texts, "the oven "]], batch_size=1)
    assert len(set(scores[:6].tolist())) == 6
    assert all(scores[number] == scores[number % 6] for number in range(120))
    assert scores[120] == scores[0]  # another text with the same tokens


def test_no_documents_at_all(encoder):
    """A window of users without a profile would end the ranking of all users."""
    assert [len(scores) for scores in dense_scores(encoder, ["one", "two"], [[], []])] == [0, 0]
