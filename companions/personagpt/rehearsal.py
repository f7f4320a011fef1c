"""Training on corrections: as many old answers beside them, so that the LM does not forget, and the command for it."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from companions.personagpt.dialogues import PersonaDialogue
from companions.personagpt.prepared import prepared_text
from companions.personagpt.settings import PersonaConfig
from utils.files import write_whole


def draw_answers(
    dialogues: Sequence[PersonaDialogue], count: int, generator: random.Random
) -> list[PersonaDialogue]:
    """A number of answers, drawn at random, each with the dialogue up to it; all of them where there are fewer."""
    places = [(dialogue, turn) for dialogue in dialogues for turn in dialogue.answers]
    return [
        replace(dialogue, turns=dialogue.turns[: turn + 1], answers=(turn,), where=dialogue.where[: turn + 1])
        for dialogue, turn in generator.sample(places, min(count, len(places)))
    ]


def write_rehearsal(
    path: Path, dialogues: Sequence[PersonaDialogue], count: int, config: PersonaConfig, seed: int | None
) -> None:
    """Write drawn answers as a prepared file.

    Args:
        path: of the file; an earlier one is replaced.
        dialogues: the old ones.
        count: corrections that they stand beside.
        config: that the file is read with.
        seed: of the draw.

    Raises:
        UserError: it cannot be written.
    """
    write_whole(path, prepared_text(draw_answers(dialogues, count, random.Random(seed)), config))


def training_arguments(
    flags: Sequence[str], lm: str, corrections: Path, rehearsal: Path, config: PersonaConfig
) -> list[str]:
    """What follows `python -m companions.personagpt.train` to train on corrections.

    Args:
        flags: `--config=FILE` and others of the trainer.
        lm: run folder or weights that are trained further.
        corrections: the new examples.
        rehearsal: the old ones.
        config: of the conversations; it goes on with its goals, its validation file and what decides how a prepared
            file is read.
    """
    dataset, model = config.dataset, config.model
    keys = {
        "model.model_name": lm,
        "model.fidelity": model.fidelity,
        "model.action_prompt": model.action_prompt,
        "dataset.train": rehearsal,
        "dataset.valid": dataset.valid,
        "dataset.actions": corrections,
        "dataset.max_utterances": dataset.max_utterances,
        "dataset.drop_duplicates": str(dataset.drop_duplicates).lower(),
        **({"dataset.goals": dataset.goals} if dataset.goals else {}),
    }
    return [*flags, *(part for key, value in keys.items() for part in ("--set", f"{key}={value}"))]
