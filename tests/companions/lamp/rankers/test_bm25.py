"""Okapi BM25: the formula worked out by hand, and the profiles that it has no answer for."""

import math

import pytest
from rank_bm25 import BM25Okapi

from companions.lamp.rankers.bm25 import bm25_scores


def test_the_scores_are_those_of_the_formula():
    """Another idf, k1, b or floor ranks other items first, and no result of the benchmark could be compared."""
    documents = ["red red fox", "red hen", "red dog barks loud", "one cow"]
    length, mean = [3, 2, 4, 2], 11 / 4
    idf = {word: math.log(4 - 1 + 0.5) - math.log(1.5) for word in "fox hen dog barks loud one cow".split()}
    idf["red"] = math.log(4 - 3 + 0.5) - math.log(3.5)
    idf["red"] = 0.25 * sum(idf.values()) / len(idf)  # it is negative

    def part(word, count, number):
        return idf[word] * count * 2.5 / (count + 1.5 * (0.25 + 0.75 * length[number] / mean))

    # "Fox" is another word than "fox", "sky" is in no document, "red" counts twice
    expected = [2 * part("red", 2, 0) + part("fox", 1, 0), 2 * part("red", 1, 1), 2 * part("red", 1, 2), 0.0]
    assert bm25_scores("red fox Fox sky red", documents).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("documents", [[], ["", " ", "\n"]])
def test_a_profile_without_a_word_has_scores_of_zero(documents):
    """One user whose items are empty would end the ranking of all users with a division by zero."""
    assert bm25_scores("some words", documents).tolist() == [0.0] * len(documents)


def test_a_query_without_a_word_of_the_profile_scores_zero():
    """Its items are tied; an error, or nan, would put them in an order that nobody stated."""
    assert bm25_scores("sky", ["red fox", "one cow"]).tolist() == [0.0, 0.0]
    assert bm25_scores("", ["red fox", "one cow"]).tolist() == [0.0, 0.0]


def test_terms_in_another_order_make_a_tie():
    """The 16th decimal would decide between two items that score the same, and with it the version of the library."""
    documents = [
        "The rusty sensor follows the battery for three hours.",
        "The clumsy sensor ignores the engineer for three hours. "
        "The silent factory repairs the circuit after an update.",
        "The hidden trumpet repeats the encore at full volume. "
        "The minor violin conducts the melody without sheet music.",
    ]
    query = "The tall engineer repairs the gripper in the lab. The minor choir conducts the choir in the second act."
    exact = BM25Okapi([document.split() for document in documents]).get_scores(query.split())
    assert exact[1] != exact[2]
    scores = bm25_scores(query, documents)
    assert scores[1] == scores[2] == pytest.approx(exact[1], abs=1e-11)
