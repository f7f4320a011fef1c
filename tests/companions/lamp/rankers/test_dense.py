"""Dense retrieval: the same scores as one text at a time, and exact ties."""

import pytest
import torch

from companions.lamp.encoder import Encoder
from companions.lamp.rankers.dense import DenseScorer

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
    found = DenseScorer(encoder, batch_size).scores(QUERIES, PROFILES)
    expected = [
        [one_at_a_time(encoder, query, text) for text in profile]
        for query, profile in zip(QUERIES, PROFILES, strict=True)
    ]
    assert [scores.tolist() for scores in found] == [pytest.approx(row, abs=2e-5) for row in expected]


def test_equal_documents_have_equal_scores(encoder):
    """A last bit that differs between batches would decide their order instead of the stated rule."""
    texts = [f"the {word}" for word in "oven sea dough robot baker hill".split()] * 20
    (scores,) = DenseScorer(encoder, batch_size=1).scores(["warm dough"], [[*texts, "the oven "]])
    assert len(set(scores[:6].tolist())) == 6
    assert all(scores[number] == scores[number % 6] for number in range(120))
    assert scores[120] == scores[0]  # another text with the same tokens


def test_no_documents_at_all(encoder):
    """A window of users without a profile would end the ranking of all users."""
    assert [len(scores) for scores in DenseScorer(encoder).scores(["one", "two"], [[], []])] == [0, 0]


@pytest.mark.parametrize("kept", [1, 3, 100])
def test_kept_vectors_stay_with_their_texts(encoder, kept):
    """A vector that was overwritten, or is another text's, would rank the profiles of all later questions wrongly."""
    expected = DenseScorer(encoder).scores(QUERIES, PROFILES)
    scorer = DenseScorer(encoder, kept=kept)
    for _ in range(3):
        for query, profile, wanted in zip(QUERIES, PROFILES, expected, strict=True):
            (found,) = scorer.scores([query], [profile])
            torch.testing.assert_close(found, wanted)


def test_each_text_goes_through_the_encoder_once(encoder, monkeypatch):
    """Questions of one user bring the same profile along: its items are most of the work."""
    seen = []
    original = Encoder.embed

    def recorded(self, ids, batch_size=16):
        seen.append(len(ids))
        return original(self, ids, batch_size)

    monkeypatch.setattr(Encoder, "embed", recorded)
    scorer = DenseScorer(encoder)
    scorer.scores(["oven", "robot"], [["sea", "dough", "sea"], ["sea", "dough ", "hill"]])
    scorer.scores(["oven", "boat"], [["sea", "hill"], ["hill"]])
    scorer.scores(["boat"], [["sea"]])
    assert seen == [5, 1]


def test_known_texts_are_not_tokenized_again(encoder, monkeypatch):
    """For a small encoder the tokenizer takes a third of the time, also for profiles that all questions share."""
    seen = []
    original = Encoder.tokenize

    def recorded(self, texts, max_length=None):
        seen.extend(texts)
        return original(self, texts, max_length)

    monkeypatch.setattr(Encoder, "tokenize", recorded)
    scorer = DenseScorer(encoder)
    scorer.scores(["oven", "robot"], [["sea", "dough"], ["sea"]])
    scorer.scores(["oven"], [["sea", "dough", "hill"]])
    assert sorted(seen) == ["dough", "hill", "oven", "robot", "sea"]
