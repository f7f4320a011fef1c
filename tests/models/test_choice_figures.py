"""What a choice is worth, on numbers worked out by hand and on degenerate inputs."""

import pytest
import torch

from models.choice_figures import CHOICE_REDUCERS, choice_sums, spread_reducer, spread_sums

LOSSES = torch.tensor([[1.0, 2.0, 3.0], [2.0, 1.0, 5.0]])  # of 4 tokens
SCORES = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])  # prompt 1, 0, 0


def row_of(*batches, examples=3):
    """The figures of a row, as the trainer sums them up."""
    row = {}
    for name in batches[0]:
        row |= CHOICE_REDUCERS[name](sum(batch[name] for batch in batches), examples)
    return row


def test_the_figures_by_hand():
    """A mean over examples in place of tokens is no logarithm of a perplexity, and runs would be ranked otherwise."""
    row = row_of(choice_sums(LOSSES, 4, SCORES))
    expected = {
        "prompt_loss": [6 / 4, 8 / 4],
        "fixed_prompt": 0,
        "fixed_loss": 6 / 4,
        "chosen_loss": 7 / 4,  # 2 + 2 + 3
        "random_loss": 7 / 4,  # the mean of 6 and 8
        "oracle_loss": 5 / 4,  # 1 + 1 + 3
        "choice_error": 1 / 4,  # differences 1, 0, 0: sqrt(3) times a standard deviation of sqrt(1 / 3)
        "best_share": [2 / 3, 1 / 3],
        "agreement_by_chance": 2 / 3 * 2 / 3 + 1 / 3 * 1 / 3,
    }
    assert row.keys() == expected.keys()
    for name, value in expected.items():
        assert row[name] == pytest.approx(value), name


def test_batches_add_up():
    """The best fixed prompt of each batch is better than any prompt for all: no choice would ever beat it."""
    parts = [choice_sums(LOSSES[:, :1], 1, SCORES[:, :1]), choice_sums(LOSSES[:, 1:], 3, SCORES[:, 1:])]
    assert row_of(*parts) == row_of(choice_sums(LOSSES, 4, SCORES))


def test_a_drawn_prompt_has_the_expected_loss():
    """Without a retriever the first of equal scores would count as the choice, which decoding does not take."""
    row = row_of(choice_sums(LOSSES, 4))
    assert row["chosen_loss"] == row["random_loss"] == 7 / 4
    assert "agreement_by_chance" not in row


def test_nothing_flows_back():
    """Figures that keep the graph keep a step's activations until the epoch's end."""
    losses = LOSSES.clone().requires_grad_()
    assert not any(value.requires_grad for value in choice_sums(losses, 4, SCORES).values())


def figures(vectors):
    """Cosine and dimensions of vectors [n, D]."""
    sums = spread_sums(vectors[:1]) + spread_sums(vectors[1:])
    row = spread_reducer("query")(sums, len(vectors))
    return row["query_cosine"], row["query_dimensions"]


def test_the_spread_is_that_of_all_pairs():
    """Pairs of a vector with itself have cosine 1, and long vectors would count more than short ones."""
    vectors = torch.randn(7, 5, generator=torch.Generator().manual_seed(1)) + 2
    units = (vectors / vectors.norm(dim=1, keepdim=True)).double()
    cosines = units @ units.T
    values = torch.linalg.eigvalsh(torch.cov(units.T, correction=0))
    expected = ((cosines.sum() - 7) / 42).item(), (values.sum() ** 2 / values.square().sum()).item()
    assert figures(vectors * torch.arange(1, 8)[:, None]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("vectors", "expected"),
    [
        (torch.eye(4), (0, 3)),  # about their mean, four points lie in three dimensions
        (torch.tensor([[1.0, 1.0], [1.0, -1.0]]), (0, 1)),
        (torch.full((5, 3), 0.1), (1, 0)),
        (torch.zeros(3, 4), (-0.5, 0)),  # a query without tokens has no direction
    ],
)
def test_vectors_of_known_dimensions(vectors, expected):
    """Equal vectors have a covariance of rounding errors, which may point in any number of directions."""
    assert figures(vectors) == pytest.approx(expected, abs=1e-6)


def test_one_example_has_no_pair():
    """0 / 0 in a row is no JSON."""
    assert spread_reducer("query")(spread_sums(torch.ones(1, 3)), 1) == {}


@pytest.mark.parametrize("dimensions", [1, 3, 20])
def test_wide_vectors_are_projected(dimensions):
    """A projection that is not corrected for finds 128 dimensions at most, and 17 where there are 20."""
    generator = torch.Generator().manual_seed(dimensions)
    vectors = torch.randn(1000, dimensions, generator=generator) @ torch.eye(600)[:dimensions]
    vectors[:, 500] = (
        3 * dimensions
    )  # what they have in common is no dimension, and keeps their lengths alike
    assert spread_sums(vectors).shape == (129, 600)
    assert figures(vectors)[1] == pytest.approx(dimensions, rel=0.15)
