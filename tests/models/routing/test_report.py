"""The figures, the table and the words of the report."""

import math

import numpy as np
import pytest

from models.routing.report import (
    FIXED,
    ORACLE,
    OWN,
    Figures,
    figures_of,
    format_table,
    ratio_interval,
    verdict,
)

LOSSES = np.array([[10.0, 20.0, 30.0, 8.0], [12.0, 15.0, 30.0, 9.0]])
TOKENS = np.array([4, 6, 8, 2])
DIALOGUES = np.array([0, 0, 1, 2])
FIRST = np.zeros(4, dtype=np.int64)


def figures(change, low, high, name="linear", shares=(0.5, 0.5)):
    """A row with a change and its interval."""
    return Figures(name, 60.0, 4.1, change, low, high, 0.4, shares)


def words(preferred, router, own=(0.0, -1.0, 1.0), oracle=-5.0):
    """The verdict as one text."""
    rows = {
        FIXED: figures(0, 0, 0, FIXED),
        OWN: figures(*own, OWN),
        "linear": figures(*router),
        ORACLE: figures(oracle, oracle, oracle, ORACLE),
    }
    return " ".join(verdict(rows, preferred, "prompt 1"))


def test_figures_by_hand():
    """Perplexity of means over examples, and not per token, is that of another corpus."""
    row = figures_of("x", np.array([0, 1, 1, 1]), LOSSES, TOKENS, DIALOGUES, FIRST)
    assert row.loss == pytest.approx((10 + 15 + 30 + 9) / 20)
    assert row.perplexity == pytest.approx(math.exp(64 / 20))
    assert row.change == pytest.approx(100 * (math.exp(-4 / 20) - 1))
    assert row.agreement == 0.75  # equal losses of the third example count
    assert row.shares == (0.25, 0.75)


def test_a_random_choice_is_an_expectation():
    """One draw would be another number in every report."""
    row = figures_of("x", np.full((2, 4), 0.5), LOSSES, TOKENS, DIALOGUES, FIRST)
    assert row.loss == pytest.approx(LOSSES.mean(axis=0).sum() / TOKENS.sum())
    assert row.shares == (0.5, 0.5)


def test_intervals_are_over_dialogues():
    """Examples of a dialogue that count as independent make an interval that is too short, and a router that helps."""
    generator = np.random.default_rng(1)
    of_dialogue = generator.normal(size=50)
    weights = np.ones(500)
    together = ratio_interval(np.repeat(of_dialogue, 10), weights, np.repeat(np.arange(50), 10))
    single = ratio_interval(np.repeat(of_dialogue, 10), weights, np.arange(500))
    assert together[0] == single[0] == pytest.approx(of_dialogue.mean())
    wanted = 2 * 1.96 * of_dialogue.std() / math.sqrt(50)
    assert together[2] - together[1] == pytest.approx(wanted, rel=0.1)
    assert (together[2] - together[1]) / (single[2] - single[1]) == pytest.approx(math.sqrt(10), rel=0.15)


@pytest.mark.parametrize("num_prompts", [2, 6, 20])
def test_the_table_has_at_most_100_columns(num_prompts):
    """Wrapped by the terminal, the columns cannot be read."""
    shares = tuple([1.0] + [0.0] * (num_prompts - 1))
    rows = [
        figures(0, 0, 0, FIXED, shares),
        Figures("random choice", 123456.78, 11.7234, -10.25, -12.5, +12.5, 1.0, shares),
    ]
    lines = format_table(rows)
    assert max(map(len, lines)) <= 100
    assert "-10.25" in lines[2]
    assert "-12.50 to +12.50" in lines[2]
    assert "100" in lines[1]


@pytest.mark.parametrize(
    ("preferred", "router", "said"),
    [
        ("linear", (-1.0, -1.5, -0.5), "A selector helps: the router 'linear' lowers perplexity by 1.00 %"),
        ("linear", (-0.2, -0.5, 0.1), "has an interval that holds 0 (-0.50 to +0.10)"),
        ("linear", (0.6, 0.5, 0.7), "raises perplexity by 0.60 % here"),
        (FIXED, (-1.0, -1.5, -0.5), "no router did better than prompt 1 for everything"),
    ],
)
def test_the_verdict_follows_the_interval(preferred, router, said):
    """A verdict by the point estimate calls noise a gain; one by the best of all routers picks its own winner."""
    text = words(preferred, router)
    assert said in text
    assert ("A selector helps" in text) == (said.startswith("A selector helps"))


def test_the_verdict_says_what_the_own_choice_is_worth():
    """The question that the command is run for: whether the run's own retriever pays."""
    assert "worse than prompt 1 for everything, by 2.00 %" in words(FIXED, (0, 0, 0), own=(2.0, 1.0, 3.0))
    assert "pays: 2.00 % better" in words(FIXED, (0, 0, 0), own=(-2.0, -3.0, -1.0))
    assert "no different" in words(FIXED, (0, 0, 0))


def test_equal_prompts_leave_nothing_to_choose():
    """Digits of rounding would be called a ceiling."""
    text = words("linear", (-0.01, -0.02, -0.005), oracle=-0.02)
    assert text.startswith("No selector can help: the prompts are as good as one.")
