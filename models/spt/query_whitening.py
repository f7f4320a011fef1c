"""`model.retriever.query_whiten`: the retriever's queries with mean 0 and variance 1, by those of the training."""

import math
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from models.whitening import Moments, Whitening, moments_of, whitening_of
from utils.errors import UserError

if TYPE_CHECKING:  # takes seconds
    from models.task import BatchLoader
    from utils.distributed import DistributedContext

QUERIES_PER_DIRECTION = 8
"""how many of the training's queries are looked at, for each of the D directions"""


class QueryWhitening(nn.Module):
    """(q - mean) matrix^T of queries [B, D], float32 whatever the model is in; no change until `start`.

    Args:
        width: D.
    """

    mean: Tensor  # [D]
    matrix: Tensor  # [D, D]

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("matrix", torch.eye(width))

    def forward(self, queries: Tensor) -> Tensor:
        """[B, D] float32."""
        return (queries.float() - self.mean) @ self.matrix.T

    @torch.no_grad()
    def start(self, whitening: Whitening) -> None:
        """Take over the statistics of a training."""
        self.mean.copy_(whitening.mean)
        self.matrix.copy_(whitening.matrix)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "QueryWhitening":
        """Another device, but never half precision: the matrix stretches small differences."""
        exact = self.mean, self.matrix
        super()._apply(fn, recurse)
        self.mean, self.matrix = (values.to(self.mean.device) for values in exact)
        return self


@torch.no_grad()
def whitening_of_training(
    batches: "BatchLoader",
    queries_of: Callable[[Any], Tensor],
    width: int,
    distributed: "DistributedContext",
) -> Whitening:
    """The whitening of the queries of a training, of a part of the first epoch's where there are many.

    All ranks must call it; they get the same.

    Args:
        batches: of this rank.
        queries_of: gives the queries [B, D] of one.
        width: D.
        distributed: the processes, which share the work.

    Raises:
        UserError: all queries are equal, or not finite.
    """
    moments = moments_of(torch.zeros(0, width, device=distributed.device))
    # on every rank the same number, as partitioned weights ask for
    number = math.ceil(QUERIES_PER_DIRECTION * width * len(batches) / len(batches.dataset))
    for place, batch in enumerate(islice(batches, number), start=1):
        queries = queries_of(batch.to(distributed.device))
        is_repeat = place == len(batches) and batches.batch_sampler.last_is_repeat
        moments += moments_of(queries[:0] if is_repeat else queries)
    moments = Moments(*map(distributed.sum, (moments.count, moments.total, moments.products)))
    try:
        found = whitening_of(moments)
    except ValueError as error:
        raise UserError(f"model.retriever.query_whiten: of the training's queries, {error}") from None
    # one rank's, as the last bits of a decomposition may differ from one machine to another
    mean, matrix = distributed.share((found.mean.cpu(), found.matrix.cpu()))
    return Whitening(mean, matrix)
