"""Beam search over many questions at once; a question leaves the batch as soon as its output is certain.

The arithmetic is that of `generate` of the library, question by question, so that outputs are equal. There a whole
batch runs until its longest output ends; here the rows of a finished question are dropped from all states, and the
last few questions of a batch may be left to a later one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

_NEVER = -1.0e9  # the score of what cannot be chosen
_COMPACT = 0.9  # finished questions are dropped once no more than this share of them is left

Processor = Callable[[Tensor, Tensor], Tensor]
"""(tokens so far [R, T], log probabilities [R, V]) -> changed log probabilities"""


class Decoder(Protocol):
    """The LM's states over the rows of a batch."""

    def first(self) -> Tensor:
        """Logits [B, V] of the first token; one row per question."""

    def next(self, tokens: Tensor, rows: Tensor, questions: Tensor | None) -> Tensor:
        """Logits [R, V] after one more token.

        Args:
            tokens: [R] the last tokens; as many for each question, one after another.
            rows: [R] which row of the call before each one continues.
            questions: which of the questions of the call before are left; None: all.
        """


@dataclass(frozen=True)
class BeamSettings:
    """How outputs are searched for."""

    num_beams: int
    max_tokens: int
    """of an output"""
    eos_ids: tuple[int, ...]
    start_id: int = 0
    """what stands before the first token, for `processors`"""
    length_penalty: float = 1.0
    """exponent of the length that log probabilities are divided by"""
    early_stopping: bool | Literal["never"] = False
    """see the library's GenerationConfig"""
    processors: tuple[Processor, ...] = ()


@dataclass
class _Beams:
    """State of the questions that are still in the batch; A of them, with n beams."""

    question: Tensor  # [A] number of each
    running: Tensor  # [A, n, T] tokens
    scores: Tensor  # [A, n] sums of log probabilities, the best first
    finished: Tensor  # [A, n, T] tokens
    finished_scores: Tensor  # [A, n]
    is_finished: Tensor  # [A, n]
    can_improve: Tensor  # [A]
    is_active: Tensor  # [A] no output yet

    def keep(self, questions: Tensor) -> None:
        """Drop all but these [.]."""
        for name, value in vars(self).items():
            setattr(self, name, value[questions])


@torch.no_grad()  # inference mode would leave DeepSpeed weights that cannot be trained any more
def beam_search(
    decoder: Decoder, settings: BeamSettings, leave: int = 0, every_step: bool = False
) -> list[list[int] | None]:
    """The best output of each question, as token ids with eos where it ends with one.

    Args:
        decoder: of B questions.
        settings: beams and limits.
        leave: once no more questions than this are left, they get None, to be searched for in another batch.
        every_step: go on to the longest possible output, so that every rank calls the LM equally often.
    """
    logits = decoder.first()
    device, count, n = logits.device, logits.shape[0], settings.num_beams
    eos = torch.tensor(settings.eos_ids, device=device)
    candidates = max(2, 1 + len(settings.eos_ids)) * n
    beams = _start(count, settings, device)
    outputs: list[list[int] | None] = [None] * count
    for step in range(settings.max_tokens):
        top, tokens, origin = _candidates(logits, beams, settings, step, candidates)
        texts = _gather(beams.running, origin)
        texts[:, :, step] = tokens
        ends = torch.isin(tokens, eos) if step + 1 < settings.max_tokens else torch.ones_like(tokens).bool()
        _finish(beams, settings, step, texts, top, ends)
        masked = top + ends * _NEVER
        kept = masked.topk(n).indices  # [A, n]
        beams.running, beams.scores = _gather(texts, kept), masked.gather(1, kept)
        _find_improvable(beams, settings, step)
        is_full = beams.is_finished.all(dim=1) & (settings.early_stopping is True)
        is_done = ~beams.can_improve | is_full | ends.all(dim=1)
        for place in (is_done & beams.is_active).nonzero().flatten().tolist():
            outputs[int(beams.question[place])] = _cut(beams.finished[place, 0].tolist(), settings)
        beams.is_active &= ~is_done
        active = beams.is_active.nonzero().flatten()
        if step + 1 == settings.max_tokens or (len(active) <= leave and not every_step):
            break
        present = len(beams.is_active)
        compact = 0 < len(active) <= _COMPACT * present
        stay = active if compact else torch.arange(present, device=device)
        last, origins = tokens.gather(1, kept)[stay], origin.gather(1, kept)[stay]  # [A', n]
        rows = stay[:, None] * (n if step else 1) + origins
        if compact:
            beams.keep(stay)
        logits = decoder.next(last.flatten(), rows.flatten(), stay if compact else None)
    return outputs


def _start(count: int, settings: BeamSettings, device: torch.device) -> _Beams:
    shape = (count, settings.num_beams)
    tokens = torch.zeros(*shape, settings.max_tokens, dtype=torch.long, device=device)
    return _Beams(
        question=torch.arange(count, device=device),
        running=tokens,
        scores=torch.zeros(count, 1, device=device),  # all beams begin as one
        finished=tokens.clone(),
        finished_scores=torch.full(shape, _NEVER, device=device),
        is_finished=torch.zeros(shape, dtype=torch.bool, device=device),
        can_improve=torch.ones(count, dtype=torch.bool, device=device),
        is_active=torch.ones(count, dtype=torch.bool, device=device),
    )


def _candidates(
    logits: Tensor, beams: _Beams, settings: BeamSettings, step: int, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations of each question: scores, tokens and beams that they continue, [A, count] each."""
    questions, width = beams.scores.shape
    values = logits.float().log_softmax(dim=-1)  # [A * width, V]
    if settings.processors:
        begin = torch.full((len(values), 1), settings.start_id, device=values.device)
        before = torch.cat([begin, beams.running[:, :width, :step].flatten(0, 1)], dim=1)
        for processor in settings.processors:
            values = processor(before, values)
    vocabulary = values.shape[1]
    total = values.view(questions, width, vocabulary) + beams.scores[:, :, None]
    top, places = total.view(questions, -1).topk(count)
    return top, places % vocabulary, places // vocabulary


def _finish(
    beams: _Beams, settings: BeamSettings, step: int, texts: Tensor, top: Tensor, ends: Tensor
) -> None:
    """Add what has just ended to the finished outputs, of which the best are kept."""
    n = settings.num_beams
    ended = ends.clone()
    ended[:, n:] = False  # the others are there so that n go on when the best ones end
    is_full = beams.is_finished.all(dim=1, keepdim=True) & (settings.early_stopping is True)
    scores = top / (step + 1) ** settings.length_penalty
    scores = scores + (is_full | ~beams.can_improve[:, None]) * _NEVER + ~ended * _NEVER
    merged = torch.cat([beams.finished_scores, scores], dim=1)
    best = merged.topk(n).indices
    beams.finished = _gather(torch.cat([beams.finished, texts], dim=1), best)
    beams.finished_scores = merged.gather(1, best)
    beams.is_finished = torch.cat([beams.is_finished, ended], dim=1).gather(1, best)


def _find_improvable(beams: _Beams, settings: BeamSettings, step: int) -> None:
    """Whether a running beam may still change the output.

    By the library's estimate, better than the worst finished one; and in truth, as sums of log probabilities only
    fall: better than the best finished one, were all further tokens certain.
    """
    never = settings.early_stopping == "never" and settings.length_penalty > 0
    length = settings.max_tokens if never else step + 1
    best = beams.scores[:, :1]
    worst = torch.where(beams.is_finished, beams.finished_scores.min(dim=1, keepdim=True).values, _NEVER)
    likely = (best / length**settings.length_penalty > worst).any(dim=1)
    longest = settings.max_tokens if settings.length_penalty > 0 else step + 1
    possible = (best / longest**settings.length_penalty >= beams.finished_scores[:, :1]).flatten()
    beams.can_improve = beams.can_improve & likely & possible


def _gather(texts: Tensor, places: Tensor) -> Tensor:
    """Texts [A, m, T] of places [A, k] among the m: [A, k, T]."""
    return texts.gather(1, places[:, :, None].expand(-1, -1, texts.shape[2]))


def _cut(tokens: list[int], settings: BeamSettings) -> list[int]:
    """An output without what follows its end."""
    end = next((place for place, token in enumerate(tokens) if token in settings.eos_ids), len(tokens) - 1)
    return tokens[: end + 1]
