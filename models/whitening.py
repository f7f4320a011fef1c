"""Whitening of vectors: statistics that add up over batches and ranks, and the transform that they give.

Features of a language model lie in a narrow cone: a common direction and a few strong ones take nearly all of their
variance, and what tells one text from another is left with the rest. Whitened ones have mean 0 and, but for the
shrinkage, variance 1 in every direction.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

SHRINKAGE = 0.1
"""of the covariance towards equal variances: directions with less than about this share of the mean variance, of which
the sample says little beside noise, are not blown up"""


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, sum and sum of products of vectors, float64; those of several sets are added."""

    count: Tensor  # scalar
    total: Tensor  # [D]
    products: Tensor  # [D, D]

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.count + other.count, self.total + other.total, self.products + other.products)

    @property
    def mean(self) -> Tensor:
        """[D]."""
        return self.total / self.count

    @property
    def covariance(self) -> Tensor:
        """[D, D], the sum of squares divided by the count."""
        covariance = self.products / self.count - torch.outer(self.mean, self.mean)
        return (covariance + covariance.T) / 2


def moments_of(vectors: Tensor) -> Moments:
    """The moments of some vectors [n, D]; n may be 0."""
    vectors = vectors.detach().double()
    count = torch.tensor(len(vectors), dtype=torch.float64, device=vectors.device)
    return Moments(count, vectors.sum(dim=0), vectors.T @ vectors)


@dataclass(frozen=True, slots=True)
class Whitening:
    """A linear transform of vectors of width D."""

    mean: Tensor  # [D]
    matrix: Tensor  # [D, D]; symmetric for "zca", one row per principal direction, strongest first, for "pca"

    def __call__(self, vectors: Tensor) -> Tensor:
        """(x - mean) matrix^T of vectors [*, D], in their precision and on their device."""
        return (vectors - self.mean.to(vectors)) @ self.matrix.to(vectors).T


def whitening_of(
    moments: Moments, shrinkage: float = SHRINKAGE, kind: Literal["zca", "pca"] = "zca"
) -> Whitening:
    """The transform after which vectors with these moments have mean 0 and covariance I, but for the shrinkage.

    With the covariance C = U diag(v) U^T and m the mean of v, v' = (1 - shrinkage) v + shrinkage m; the matrix is
    diag(v')^(-1/2) U^T for "pca", and U times that for "zca", which turns the vectors as little as can be. Directions
    without any variance, which only shrinkage 0 leaves, become 0.

    Args:
        moments: of at least two different vectors.
        shrinkage: from 0, the plain covariance, to 1, where all directions are scaled alike.
        kind: which of the transforms, which differ by a rotation.

    Returns:
        float64, on the device of the moments.

    Raises:
        ValueError: the shrinkage is not a share, or the vectors are all equal or not finite.
    """
    if not 0 <= shrinkage <= 1:
        raise ValueError(f"shrinkage {shrinkage}: from 0 to 1")
    covariance = moments.covariance
    variance = float(covariance.diagonal().mean())
    # what rounding leaves of equal vectors
    rounding = 1e-12 * float(moments.products.diagonal().mean() / moments.count)
    if not (torch.isfinite(covariance).all() and variance > rounding):
        raise ValueError(
            f"{int(moments.count)} vectors that are all equal, or not finite, cannot be whitened"
        )
    values, directions = torch.linalg.eigh(covariance)  # ascending [D], [D, D] in columns
    values, directions = values.flip(0).clamp(min=0), directions.flip(1)
    shrunk = (1 - shrinkage) * values + shrinkage * variance
    is_left = shrunk > 1e-12 * shrunk[0]
    scale = torch.where(is_left, shrunk.clamp(min=torch.finfo(shrunk.dtype).tiny), torch.inf).rsqrt()
    matrix = scale[:, None] * directions.T
    return Whitening(moments.mean, directions @ matrix if kind == "zca" else matrix)
