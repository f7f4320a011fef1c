"""Whitening from sums: against the covariance itself, in parts, and on what has none."""

import pytest
import torch

from models.whitening import Moments, moments_of, whitening_of


@pytest.fixture
def vectors():
    """[400, 6] float64 with a large mean, strong directions and weak ones."""
    generator = torch.Generator().manual_seed(5)
    plain = torch.randn(400, 6, generator=generator, dtype=torch.float64)
    mixed = (
        plain
        * torch.tensor([9.0, 4.0, 1.0, 0.5, 0.2, 0.1])
        @ torch.randn(6, 6, generator=generator, dtype=torch.float64)
    )
    return mixed + 30


def covariance_of(vectors):
    """[D, D] of centred vectors, divided by n."""
    centred = vectors - vectors.mean(dim=0)
    return centred.T @ centred / len(vectors)


@pytest.mark.parametrize("kind", ["zca", "pca"])
def test_whitened_vectors_have_mean_zero_and_unit_covariance(vectors, kind):
    """A transposed matrix or a square root too few leaves the strong directions where they were."""
    whitened = whitening_of(moments_of(vectors), shrinkage=0, kind=kind)(vectors)
    torch.testing.assert_close(whitened.mean(dim=0), torch.zeros(6, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(covariance_of(whitened), torch.eye(6).double(), atol=1e-8, rtol=0)


def test_the_two_kinds(vectors):
    """A "zca" that turns the vectors would give a scorer another basis at each start; "pca" has the strongest first."""
    zca = whitening_of(moments_of(vectors), shrinkage=0.3)
    torch.testing.assert_close(zca.matrix, zca.matrix.T)
    # the inverse root of the shrunk covariance, by definition
    covariance = covariance_of(vectors)
    shrunk = 0.7 * covariance + 0.3 * covariance.trace() / 6 * torch.eye(6).double()
    torch.testing.assert_close(zca.matrix @ shrunk @ zca.matrix, torch.eye(6).double(), atol=1e-9, rtol=0)
    pca = whitening_of(moments_of(vectors), shrinkage=0.3, kind="pca")
    spread = covariance_of(pca(vectors))
    assert (spread.diagonal().diff() <= 0).all()
    torch.testing.assert_close(spread, torch.diag(spread.diagonal()), atol=1e-9, rtol=0)


def test_shrinkage_leaves_noise_small(vectors):
    """Directions that hardly vary would be blown up to the size of all others, and their noise with them."""
    moments = moments_of(vectors)
    variances = [covariance_of(whitening_of(moments, share)(vectors)).diagonal() for share in (0.1, 1)]
    assert (variances[0] <= 1 / 0.9 + 1e-9).all()
    pca = covariance_of(whitening_of(moments, 0.1, kind="pca")(vectors)).diagonal()
    assert 0.9 < pca[0] < 1 / 0.9
    assert pca[-1] < 0.05
    # at 1 all directions are scaled alike
    plain = covariance_of(vectors)
    torch.testing.assert_close(variances[1], plain.diagonal() / plain.diagonal().mean())


def test_parts_add_up(vectors):
    """Batches and ranks would each whiten by their own statistics; an empty share must not be a division by zero."""
    parts = [moments_of(part) for part in (vectors[:7], vectors[7:7], vectors[7:300], vectors[300:])]
    summed = sum(parts[1:], start=parts[0])
    whole = moments_of(vectors)
    assert summed.count == 400
    torch.testing.assert_close(summed.covariance, whole.covariance)
    torch.testing.assert_close(summed.covariance, covariance_of(vectors), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(whitening_of(summed).matrix, whitening_of(whole).matrix, atol=1e-8, rtol=1e-8)


def test_fewer_vectors_than_directions(vectors):
    """The covariance of 4 vectors has no inverse: what never varied must become 0, not infinite."""
    few = vectors[:4]
    whitened = whitening_of(moments_of(few), shrinkage=0)(few)
    assert torch.isfinite(whitened).all()
    assert torch.linalg.matrix_rank(covariance_of(whitened), atol=1e-6) == 3
    assert whitened.norm() == pytest.approx(12**0.5, rel=1e-4)  # 4 vectors, 3 directions of variance 1
    assert torch.isfinite(whitening_of(moments_of(few))(vectors)).all()


def test_precision_and_device_are_those_of_the_vectors(vectors):
    """A float64 result of a float32 query would not go through a float32 layer."""
    whitening = whitening_of(moments_of(vectors.float()))
    assert whitening(vectors.float()).dtype == torch.float32
    torch.testing.assert_close(whitening(vectors.float()).double(), whitening(vectors), atol=1e-3, rtol=1e-3)


def test_what_cannot_be_whitened(vectors):
    """Division by a variance of zero gives scores that are no numbers, and an argmax takes prompt 0."""
    equal = vectors[:1].expand(5, -1)
    for bad in (equal, equal[:0], torch.full((3, 6), torch.nan)):
        with pytest.raises(ValueError, match="cannot be whitened"):
            whitening_of(moments_of(bad))
    for share in (-0.1, 1.1):
        with pytest.raises(ValueError, match="from 0 to 1"):
            whitening_of(moments_of(vectors), share)
    assert isinstance(moments_of(vectors) + moments_of(vectors), Moments)
