"""Dense retrieval: the dot product of the query's and each document's vector."""

from array import array
from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor

from companions.lamp.encoder import Encoder

KEPT = 1 << 15
"""vectors of earlier texts that are kept; 100 MB with 768 numbers each"""


class DenseScorer:
    """Scores the profiles of several users together, so that the encoder has full batches of texts of like length.

    Each different text is tokenized and goes through the encoder once, as the questions of one user bring the same
    profile along; the last of them are kept from call to call. Texts that are equal for the encoder have the very same
    vector.

    Args:
        encoder: makes the vectors.
        batch_size: see `Encoder.embed`.
        kept: number of vectors that are kept.
    """

    def __init__(self, encoder: Encoder, batch_size: int = 16, kept: int = KEPT) -> None:
        self.encoder, self.batch_size = encoder, batch_size
        # a ring, the oldest is overwritten
        self._vectors = torch.empty(kept, encoder.model.config.hidden_size)
        self._keys: list[tuple[bytes, ...]] = [
            ()
        ] * kept  # of a vector: its tokens' key, and its first text's
        self._place: dict[bytes, int] = {}  # where the vector of a key is
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
        keys = {text: _key("text", text.encode("utf-8", "surrogatepass")) for text in different}
        unread = [text for text in different if keys[text] not in self._place]
        new: dict[
            bytes, tuple[bytes, list[int]]
        ] = {}  # by the key of tokens: the key of their first text, and they
        for text, tokens in zip(unread, self.encoder.tokenize(unread), strict=True):
            of_tokens = _key("tokens", array("i", tokens).tobytes())
            if of_tokens not in self._place:
                new.setdefault(of_tokens, (keys[text], tokens))
            keys[text] = of_tokens
        place = {key: self._place.get(key) for key in keys.values()}
        used = list(dict.fromkeys(slot for slot in place.values() if slot is not None))
        row_of_slot = {slot: row for row, slot in enumerate(used)}
        row_of_new = {key: row for row, key in enumerate(new, start=len(used))}
        row = {key: row_of_new[key] if slot is None else row_of_slot[slot] for key, slot in place.items()}
        vectors = self._vectors[used]
        if new:
            made, rows = self.encoder.embed([tokens for _, tokens in new.values()], self.batch_size)
            made = made[rows]
            self._keep([(key, of_text) for key, (of_text, _) in new.items()], made)
            vectors = torch.cat([vectors, made])
        return vectors, torch.tensor([row[keys[text]] for text in texts])

    def _keep(self, keys: Sequence[tuple[bytes, bytes]], vectors: Tensor) -> None:
        """Put vectors [N, H] in the place of the oldest ones."""
        size = len(self._keys)
        keys, vectors = keys[-size:], vectors[-size:]
        slots = [(self._next + number) % size for number in range(len(keys))]
        for slot, pair in zip(slots, keys, strict=True):
            for old in self._keys[slot]:
                del self._place[old]
            self._keys[slot] = pair
            self._place.update(dict.fromkeys(pair, slot))
        self._vectors[slots] = vectors
        self._next = (self._next + len(keys)) % size


def _key(kind: str, content: bytes) -> bytes:
    """What stands for a text, or for its tokens, which may be long."""
    return blake2b(content, digest_size=16, person=kind.encode()).digest()
