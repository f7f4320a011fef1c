"""A trained scorer's choice of a strategy for each question of a stream."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from companions.lamp.encoder import batches_by_length, pad
from companions.lamp.rspg.inputs import InputMaker
from companions.lamp.rspg.model import Scorer
from models.feedback import chosen_candidates

_CHUNK = 32  # batches whose texts are sorted by length together


class Candidates(Protocol):
    """One question under R strategies."""

    @property
    def prompts(self) -> Sequence[str]:
        """R of them."""

    @property
    def outputs(self) -> Sequence[str]:
        """R of them; Pre does not look at them."""


AnyCandidates = TypeVar("AnyCandidates", bound=Candidates)


def choose(
    scorer: Scorer, maker: InputMaker, questions: Iterable[AnyCandidates], batch_size: int
) -> Iterator[tuple[AnyCandidates, int]]:
    """Each question with the number of its best strategy, the first one of equal ones.

    Args:
        scorer: in evaluation mode, on its device.
        maker: makes its inputs.
        questions: a stream; a part of it is in memory at a time.
        batch_size: questions with inputs of the full length that are scored together.
    """
    stream = iter(questions)
    while chunk := list(islice(stream, _CHUNK * batch_size)):
        scores = score_questions(scorer, maker, chunk, batch_size)
        yield from zip(chunk, chosen_candidates(scores).tolist(), strict=True)


@torch.inference_mode()
def score_questions(
    scorer: Scorer, maker: InputMaker, questions: Sequence[Candidates], batch_size: int
) -> Tensor:
    """Scores [R, B] of the strategies of some questions, on the CPU; equal inputs are scored once."""
    prompts = [prompt for question in questions for prompt in question.prompts]
    keys = [
        tuple(ids)
        for ids in maker.ids(prompts, [output for question in questions for output in question.outputs])
    ]
    texts = sorted(set(keys), key=lambda text: (-len(text), text))
    number = {text: place for place, text in enumerate(texts)}
    places = torch.tensor([number[key] for key in keys]).view(len(questions), -1).T
    device, pad_id = scorer.lm.device, scorer.encoder.tokenizer.pad_token_id
    parts = batches_by_length(texts, batch_size * len(places) * (maker.room + 2))
    padded = (pad(part, pad_id) for part in parts)
    scores = [scorer.score_texts(ids.to(device), mask.to(device)).float().cpu() for ids, mask in padded]
    return torch.cat(scores)[places]
