"""Intervals and paired tests: of the numbers that the report has, and as wide as they claim."""

import numpy as np
import pytest

from utils.metrics import score
from utils.metrics.comparison import Sums, difference, estimate, numbered
from utils.metrics.measures import MEASURES, measures_of

WORDS = [f"w{number}" for number in range(12)]


def rows_of(seed: int, shift: float = 0.0, dialogues: int = 30) -> list[dict]:
    """Replies of a made system to four examples of each dialogue; the targets are the same for all seeds."""
    targets, made = np.random.default_rng(99), np.random.default_rng(seed)
    rows = []
    for dialogue in range(dialogues):
        for turn in range(4):
            target = " ".join(targets.choice(WORDS, 6))
            kept = [word if made.random() < 0.5 + shift else "x" for word in target.split()]
            loss = float(made.gamma(4.0)) - 3 * shift
            row = {"dialogue": dialogue, "turn": turn, "prediction": " ".join(kept), "target": target}
            rows.append(row | {"nll": loss + 5, "nll_tokens": 7})
    return rows


@pytest.mark.parametrize("name", [name for name in MEASURES if name != "replies"])
def test_a_measure_is_the_metric_of_the_report(name: str) -> None:
    """Were a measure computed otherwise than the report's metric, its interval would be one of another number."""
    rows = rows_of(1)
    wanted = score(rows, [name])[name].value
    assert measures_of(name, [rows], "dialogue")[0].value() == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("name", MEASURES)
def test_leaving_a_dialogue_out_is_as_if_it_had_never_been_there(name: str) -> None:
    """A wrong leave-one-out value makes the interval too small or too large, which no other test would tell."""
    rows = rows_of(2, dialogues=6)
    left_out = measures_of(name, [rows], "dialogue")[0].without_each()
    for dialogue in range(6):
        others = [row for row in rows if row["dialogue"] != dialogue]
        assert left_out[dialogue] == pytest.approx(
            measures_of(name, [others], "dialogue")[0].value(), rel=1e-9
        )


@pytest.mark.parametrize("name", MEASURES)
def test_exchanging_dialogues_is_exchanging_their_replies(name: str) -> None:
    """Were the wrong outputs exchanged, the p-value would be one of nothing."""
    one, other = rows_of(3, dialogues=6), rows_of(4, dialogues=6)
    exchange = np.array([[True, False, True, False, False, True]])
    mixed = [
        second if exchange[0, first["dialogue"]] else first for first, second in zip(one, other, strict=True)
    ]
    first, second = measures_of(name, [one, other], "dialogue")
    assert first.exchanged(second, exchange)[0] == pytest.approx(
        measures_of(name, [mixed], "dialogue")[0].value(), rel=1e-9
    )


def test_the_interval_of_a_mean_is_that_of_the_textbook() -> None:
    """For a mean the jackknife's standard error is the usual one; another factor would make every interval wrong."""
    values = np.random.default_rng(0).normal(size=50)
    measure = Sums(np.stack([values, np.ones(50)], axis=1), lambda sums: sums[..., 0] / sums[..., 1])
    found = estimate([measure])
    half = 1.959964 * values.std(ddof=1) / 50**0.5
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """An interval over examples instead of dialogues, which are not independent, would cover far less than 95 %."""
    generator, covered = np.random.default_rng(5), 0
    for _ in range(200):
        shared = generator.normal(size=60)
        values = np.repeat(shared, 5) + generator.normal(size=300)
        groups = np.repeat(np.arange(60), 5)
        sums = np.stack([np.bincount(groups, values), np.full(60, 5.0)], axis=1)
        found = estimate([Sums(sums, lambda total: total[..., 0] / total[..., 1])])
        covered += found.low <= 0 <= found.high
    assert 0.90 <= covered / 200 <= 0.99


def test_equal_systems_do_not_differ_and_a_better_one_does() -> None:
    """A test that calls chance significant, or that misses a large difference, would decide the comparison wrongly."""
    same = [
        difference(
            *(
                [measure]
                for measure in measures_of("f1", [rows_of(2 * seed), rows_of(2 * seed + 1)], "dialogue")
            )
        ).p
        for seed in range(10, 30)
    ]
    assert sum(p < 0.05 for p in same) <= 4
    better, worse = measures_of("f1", [rows_of(1, shift=0.3), rows_of(2)], "dialogue")
    found = difference([better], [worse])
    assert found.p < 0.01
    assert found.low > 0


def test_a_system_against_itself_has_p_1() -> None:
    """Rounding must not make a difference of exactly 0 look significant."""
    (measure,) = measures_of("ppl", [rows_of(1)], "dialogue")
    assert difference([measure], [measure]).p == 1.0


def test_other_examples_are_refused() -> None:
    """Paired numbers of different examples would be compared as if they were of the same ones."""
    other = rows_of(2)
    other[3]["target"] = "something else"
    with pytest.raises(ValueError, match="same examples"):
        measures_of("f1", [rows_of(1), other], "dialogue")


def test_items_without_ngrams_are_counted_for_none() -> None:
    """A reply of one word has no bigram; it must neither fail nor shift the groups of the others."""
    (measure,) = numbered([[[("a", "b")], [], [("a", "b"), ("b", "c")]]], np.array([0, 1, 2]))
    assert measure.value() == pytest.approx(100 * 2 / 3)
    assert measure.without_each() == pytest.approx([100.0, 100 * 2 / 3, 100.0])


@pytest.mark.parametrize("name", ["dist_2", "replies"])
def test_a_system_that_says_nothing_has_no_distinct_items(name: str) -> None:
    """A collapsed method that replies with one word each time would end hours of others with a traceback."""
    rows = rows_of(1, dialogues=3)
    silent = [row | {"prediction": ""} for row in rows]
    one, none, again = measures_of(name, [rows, silent, silent], "dialogue")
    if name == "dist_2":
        assert none.value() == 0
        assert difference([none], [again]).p == 1.0
    assert difference([one], [none]).value == pytest.approx(one.value() - none.value())
