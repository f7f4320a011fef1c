"""How a user's profile is ranked for a question: one function per ranker, by the name that the commands have."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from companions.lamp.rankers.orders import alternating, best_first, newest_first, shuffled
from utils.errors import UserError, nearest

if TYPE_CHECKING:
    import torch

CONTRIEVER = "facebook/contriever"


@dataclass(frozen=True, slots=True)
class Candidates:
    """A question with its whole profile, as far as its ranker reads it."""

    question: str
    """id"""
    query: str
    """empty for a ranker that reads none"""
    documents: Sequence[str]
    dates: Sequence[tuple[int, ...]]
    """of each document, as its numbers; empty for a ranker that reads none"""


@dataclass(frozen=True, slots=True)
class RankerOptions:
    """What rankers are made with."""

    batch_size: int = 16
    """see `Encoder.embed`"""
    encoder: str = CONTRIEVER
    """name or folder of a text encoder"""
    device: "torch.device | str" = "cpu"
    """where it computes"""
    seed: int = 0
    """of `random`"""


Ranker = Callable[[Sequence[Candidates]], list[list[int]]]
"""From several questions to the order of each one's whole profile: positions, best first"""


@dataclass(frozen=True, slots=True)
class RankerKind:
    """A ranker by name: what it reads, and how it is made, once for all questions."""

    make: Callable[[RankerOptions], Ranker]
    reads_query: bool = False
    reads_dates: bool = False


def _each(order: Callable[[Candidates], list[int]]) -> Ranker:
    return lambda questions: [order(question) for question in questions]


def _bm25(options: RankerOptions) -> Ranker:
    from companions.lamp.rankers.bm25 import bm25_scores

    return _each(lambda question: best_first(bm25_scores(question.query, question.documents)))


def _contriever(options: RankerOptions) -> Ranker:
    # seconds of import, for the rankers that need them
    from transformers.utils import logging as transformers_logging

    from companions.lamp.encoder import load_encoder
    from companions.lamp.rankers.dense import DenseScorer

    transformers_logging.disable_progress_bar()
    scorer = DenseScorer(load_encoder(options.encoder, options.device), options.batch_size)

    def rank(questions: Sequence[Candidates]) -> list[list[int]]:
        if not questions:
            return []
        queries, documents = zip(*((item.query, item.documents) for item in questions), strict=True)
        orders = []
        for question, scores in zip(questions, scorer.scores(queries, documents), strict=True):
            if not scores.isfinite().all():
                raise UserError(
                    f"encoder {options.encoder}: the scores of question '{question.question}' are not finite: "
                    "its weights hold no numbers"
                )
            orders.append(best_first(scores.numpy()))
        return orders

    return rank


def _recency(options: RankerOptions) -> Ranker:
    return _each(lambda question: newest_first(question.dates))


def _random(options: RankerOptions) -> Ranker:
    return _each(lambda question: shuffled(len(question.documents), options.seed, question.question))


def _recency_contriever(options: RankerOptions) -> Ranker:
    dense, recent = _contriever(options), _recency(options)
    return lambda questions: [
        alternating(best, newest) for best, newest in zip(dense(questions), recent(questions), strict=True)
    ]


RANKERS: Mapping[str, RankerKind] = {
    "bm25": RankerKind(_bm25, reads_query=True),
    "contriever": RankerKind(_contriever, reads_query=True),
    "recency": RankerKind(_recency, reads_dates=True),
    "random": RankerKind(_random),
    "recency_contriever": RankerKind(_recency_contriever, reads_query=True, reads_dates=True),
}


def ranker_kind(name: str) -> RankerKind:
    """The ranker of a name.

    Raises:
        UserError: there is none; with the nearest name.
    """
    if name not in RANKERS:
        raise UserError(f"unknown ranker '{name}'{nearest(name, RANKERS)}")
    return RANKERS[name]
