"""The figures of scaling: exponents that are right, rows of what was asked for, and a picture of all of them."""

import pytest

from tests.benchmark.picture import draw
from tests.benchmark.scaling import POINTS, USUAL, exponent, measure, summary


def rows_of(cost):
    """Rows for all points on one and two ranks, with a made cost."""
    return [
        {"ranks": ranks, **point, "seconds": cost(ranks, **point)} for ranks in (1, 2) for point in POINTS
    ]


def test_exponents_are_those_of_the_law():
    """A cost that grows with the square must not be reported as linear, nor the one figure in the other's place."""
    rows = rows_of(lambda ranks, prompts, tokens: 0.3 * prompts * tokens**2)
    assert exponent(
        [{"tokens": 2, "seconds": 8.0}, {"tokens": 4, "seconds": 64.0}], "tokens"
    ) == pytest.approx(3)
    found = summary(rows)
    assert found["prompts"] == pytest.approx({1: 1.0, 2: 1.0})
    assert found["tokens"] == pytest.approx({1: 2.0, 2: 2.0})
    assert found["ranks"] == pytest.approx(1.0)  # twice the examples in the same seconds of each
    slower = rows_of(lambda ranks, prompts, tokens: ranks * prompts)
    assert summary(slower)["ranks"] == pytest.approx(0.0)


def test_a_step_is_measured_at_each_point(distributed):
    """A point that is left out, or measured with other prompts or texts, bends the line for no reason of the code."""
    points = [USUAL, {"prompts": 3, "tokens": 32}]
    size = {"architecture": "opt", "hidden_size": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 300}
    rows = measure(distributed, points, size)
    assert [{name: row[name] for name in USUAL} for row in rows] == points
    assert all(row["ranks"] == 1 and row["seconds"] > 0 for row in rows)


@pytest.mark.parametrize("name", ["a.svg", "a.png"])
def test_the_picture_shows_the_exponents(tmp_path, name):
    """A picture without a line for each number of ranks, or one that differs in every run, cannot be kept."""
    rows = rows_of(lambda ranks, prompts, tokens: 0.1 * prompts * tokens)
    pictures = []
    for folder in ("first", "second"):
        draw(rows, summary(rows), USUAL, tmp_path / folder / name)
        pictures.append((tmp_path / folder / name).read_bytes())
    assert pictures[0] == pictures[1]
    assert pictures[0].startswith(b"<?xml" if name.endswith("svg") else b"\x89PNG")
    if name.endswith("svg"):
        assert pictures[0].count(b"2 ranks: exponent 1.00") == 2
