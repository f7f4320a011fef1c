"""How far a training has come: what a checkpoint says beside its tensors, as JSON."""

import json
from typing import Annotated, Any

from pydantic import Field, Strict, ValidationError

from utils.config.schema import Section, Several
from utils.errors import UserError, shown
from utils.files import to_json

Count = Annotated[int, Field(ge=0, lt=2**53)]
Done = Annotated[tuple[Count, Count], Strict(False)]


class Sums(Section):
    """A `trainer.logs.Tally` of all ranks together."""

    examples: Count = 0
    losses: dict[str, float] = {}
    counts: dict[str, Count] = {}
    diagnostics: dict[str, Any] = {}
    """nested lists of numbers"""


class Progress(Section):
    """Everything that a training goes on with but tensors."""

    epoch: Count = 0
    """the epoch to go on in, from 0"""
    done: Several[Done] = ()
    """what is done of it: (ranks, batches of each of them), one after another where the number of ranks changed; once
    all batches are done, the epoch's row is written, and the validation comes next"""
    steps: Count = 0
    """optimiser steps, with those that float16 skipped, whatever the number of ranks was that made them"""
    skipped: Count = 0
    samples: Count = 0
    micro_steps: Count = 0
    total_steps: Count = 0
    """steps of the whole training with this number of ranks, as the learning rate's schedule was made for"""
    scheduled: Count = 0
    """how many of them the learning rate's schedule has behind it"""
    best: float | None = None
    """the best figure so far"""
    updates: dict[str, Count] = {}
    """how often Adam has changed each parameter"""
    loss_scale: dict[str, float] = {}
    """of float16"""
    epoch_sums: Sums = Sums()
    """of the epoch so far"""
    recent_sums: Sums = Sums()
    """since the last row"""
    seconds: dict[str, float] = {}
    """of each part of the epoch so far, see trainer/clock.py"""
    logs: dict[str, Count] = {}
    """bytes of each file that is appended to"""
    ranks: Count = 1
    accumulation_steps: Count = 1
    files: dict[str, str | None] = {}
    """hash of each file that the training rests on"""

    def rules(self) -> list[tuple[bool, str]]:
        """Counts that a training can have reached."""
        return [
            (self.skipped > self.steps, "more steps were skipped than were made"),
            (self.scheduled > self.total_steps, "its learning-rate schedule is past the training's end"),
        ]


def progress_to_json(progress: Progress) -> str:
    """The text of `progress_from_json`.

    Raises:
        UserError: a number in it is not finite.
    """
    return to_json(progress.model_dump())


def progress_from_json(text: str, source: str) -> Progress:
    """What `progress_to_json` wrote.

    Raises:
        UserError: the text is something else.
    """
    try:
        progress = Progress.model_validate(json.loads(text))
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise UserError(f"{source}: {shown(key)} of its progress: {fault['msg']}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{source}: no progress of a training; a checkpoint of --resume has one") from None
    if broken := progress.contradictions():
        raise UserError(f"{source}: {broken[0]}")
    return progress
