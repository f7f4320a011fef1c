"""Teacher-forced scores: the original's arithmetic by hand, and what would have been no number there."""

import math

import pytest

from companions.personagpt.scores import AnswerScore, pair_f1, segments, teacher_forced_f1, totals
from tests.companions.personagpt.golden import GOLDEN, content

EOS = 9
VECTOR = content(GOLDEN / "losses" / "expected.json")["f1_vector"]


def test_f1_counts_distinct_ids_over_lengths_with_repeats():
    """ParlAI's multiset overlap under this name would be compared with figures of another definition."""
    assert pair_f1(VECTOR["predicted"], VECTOR["gold"]) == pytest.approx(VECTOR["f"], abs=1e-12)
    assert pair_f1([1, 2, 2], [1, 3, 2, 4]) == pytest.approx(2 * 2 / 3 * 0.5 / (2 / 3 + 0.5 + 0.001))
    assert pair_f1([1], [2]) == 0


def test_segments_lie_between_runs_of_eos():
    """A second eos that opened an empty segment would pair every answer with nothing."""
    assert segments([1, 2, EOS, EOS, 3, EOS], EOS) == [[1, 2], [3]]
    assert segments([EOS, EOS], EOS) == []
    assert segments([1], EOS) == [[1]]


def test_only_what_comes_before_the_first_predicted_eos_meets_the_answer():
    """Words after it were never said; counted, they would raise the score."""
    assert teacher_forced_f1([1, EOS, 2, 3], [1, 2, 3, EOS], EOS) == pair_f1([1], [1, 2, 3])
    assert teacher_forced_f1([1, EOS, 5], [1, EOS, 2], EOS) == pytest.approx(
        (pair_f1([1], [1]) + pair_f1([5], [2])) / 2
    )


def test_an_answer_without_a_pair_scores_zero():
    """The mean of no pairs is no number, and would make the score of the whole file none."""
    assert teacher_forced_f1([EOS, EOS], [1, EOS], EOS) == 0.0
    assert teacher_forced_f1([1], [EOS], EOS) == 0.0


def test_totals_by_hand():
    """Averaged per token, the figure named after the original would not be the original's; and the other way round."""
    short = AnswerScore(first_nll=3.0, rest_nll=1.0, num_tokens=2, f1=0.5)
    long = AnswerScore(first_nll=1.0, rest_nll=6.0, num_tokens=4, f1=0.1)
    found = totals([short, long])
    assert found.legacy_loss == pytest.approx((1.0 + 2.0) / 2)
    assert found.legacy_perplexity == pytest.approx(math.exp(1.5))
    assert found.teacher_forced_f1 == pytest.approx(0.3)
    assert found.token_perplexity == pytest.approx(math.exp(11 / 6))
    assert (found.answers, found.tokens) == (2, 6)


def test_an_answer_of_one_token_is_in_the_token_perplexity_alone():
    """Without its only token nothing is left to average: dividing by zero would lose a file of thousands of answers."""
    only_eos = AnswerScore(first_nll=2.0, rest_nll=0.0, num_tokens=1, f1=0.0)
    other = AnswerScore(first_nll=3.0, rest_nll=1.0, num_tokens=2, f1=0.5)
    found = totals([only_eos, other])
    assert (found.legacy_loss, found.teacher_forced_f1, found.answers) == (1.0, 0.5, 1)
    assert found.token_perplexity == pytest.approx(math.exp(2))
    with pytest.raises(ValueError, match="more than one token"):
        totals([only_eos])
