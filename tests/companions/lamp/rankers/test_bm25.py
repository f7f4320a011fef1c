"""Okapi BM25: the formula worked out by hand, and the profiles that it has no answer for."""

import math

import pytest

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
