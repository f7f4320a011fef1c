"""Dense retrieval: the dot product of the query's and each document's vector."""

from array import array
from collections.abc import Sequence

import torch
from torch import Tensor

from companions.lamp.encoder import Encoder

KEPT = 1 << 15
"""vectors of earlier texts that are kept; 100 MB with 768 numbers each"""


class DenseScorer:
    """Scores the profiles of several users together, so that the encoder has full batches of texts of like length.

    Each different text goes through the encoder once, as the questions of one user bring the same profile along; the
    last of them are kept from call to call. Texts that are equal for the encoder have the very same vector.

    Args:
        encoder: makes the vectors.
        batch_size: see `Encoder.embed`.
        kept: number of vectors that are kept.
    """

    def __init__(self, encoder: Encoder, batch_size: int = 16, kept: int = KEPT) -> None:
        self.encoder, self.batch_size = encoder, batch_size
        self._vectors = torch.empty(
            kept, encoder.model.config.hidden_size
        )  # a ring, the oldest is overwritten
        self._texts: list[bytes | None] = [None] * kept
        self._place: dict[bytes, int] = {}  # of a text, as its token ids, in the ring
        self._next = 0

    def scores(self, queries: Sequence[str], profiles: Sequence[Sequence[str]]) -> list[Tensor]:
        """Scores [N] of the N documents of each profile against its query; equal documents score equally, bit by bit.

        Args:
            queries: one per profile.
            profiles: the documents of each.
        """
        documents = [document for profile in profiles for document in profile]
        if not documents:
            return [torch.empty(0) for _ in profiles]
        vectors, rows = self.vectors([*queries, *documents])  # [U, H], [N]
        of_queries, of_documents = rows[: len(queries)], rows[len(queries) :]
        scores, start = [], 0
        for query, profile in zip(of_queries, profiles, strict=True):
            # a product of matrices may add up in another order from row to row, so equal ones are multiplied once
            different, place = of_documents[start : start + len(profile)].unique(return_inverse=True)
            scores.append((vectors[different] @ vectors[query])[place])
            start += len(profile)
        return scores

    def vectors(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Vectors [U, H] of the U different texts among N, on the CPU, and which of them each text has [N]."""
        different = list(dict.fromkeys(texts))
        ids = self.encoder.tokenize(different)
        keys = {text: array("i", tokens).tobytes() for text, tokens in zip(different, ids, strict=True)}
        known = [key for key in dict.fromkeys(keys.values()) if key in self._place]
        new = {key: tokens for key, tokens in zip(keys.values(), ids, strict=True) if key not in self._place}
        vectors = self._vectors[[self._place[key] for key in known]]
        if new:
            made, rows = self.encoder.embed(list(new.values()), self.batch_size)
            made = made[rows]
            self._keep(list(new), made)
            vectors = torch.cat([vectors, made])
        row = {key: number for number, key in enumerate([*known, *new])}
        return vectors, torch.tensor([row[keys[text]] for text in texts])

    def _keep(self, keys: list[bytes], vectors: Tensor) -> None:
        for key, vector in zip(keys, vectors, strict=True):
            old = self._texts[self._next]
            if old is not None:
                del self._place[old]
            self._texts[self._next], self._place[key] = key, self._next
            self._vectors[self._next] = vector
            self._next = (self._next + 1) % len(self._texts)
