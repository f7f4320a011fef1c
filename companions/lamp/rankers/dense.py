"""Dense retrieval: the dot product of the query's and each document's vector."""

from collections.abc import Sequence

import torch
from torch import Tensor

from companions.lamp.encoder import Encoder


def dense_scores(
    encoder: Encoder, queries: Sequence[str], profiles: Sequence[Sequence[str]], batch_size: int = 16
) -> list[Tensor]:
    """Scores [N] of the N documents of each profile against its query.

    The texts of all profiles go through the encoder together, each different one once. Documents that are equal for
    the encoder have equal scores, to the last bit.

    Args:
        encoder: makes the vectors.
        queries: one per profile.
        profiles: the documents of each.
        batch_size: see `Encoder.embed`.
    """
    documents = [document for profile in profiles for document in profile]
    if not documents:
        return [torch.empty(0) for _ in profiles]
    vectors, rows = encoder.embed(encoder.tokenize([*queries, *documents]), batch_size)  # [U, H], [N]
    of_queries, of_documents = rows[: len(queries)], rows[len(queries) :]
    scores, start = [], 0
    for query, profile in zip(of_queries, profiles, strict=True):
        # a product of matrices may add up in another order from row to row, so equal ones are multiplied once
        different, place = of_documents[start : start + len(profile)].unique(return_inverse=True)
        scores.append((vectors[different] @ vectors[query])[place])
        start += len(profile)
    return scores
