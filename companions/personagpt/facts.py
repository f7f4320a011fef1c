"""Where the facts of a persona come from: given on the command line, drawn from a dialogue file, or typed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from companions.personagpt.dialogues import PersonaDialogue
from companions.personagpt.prepared import read_persona_dialogues
from companions.personagpt.settings import PersonaConfig
from models.decoding.chat import given_lines
from utils.errors import UserError


def facts_source(
    given: str | None, profiles: str | None, config: PersonaConfig, seed: int | None
) -> list[str] | None:
    """The facts that flags give; None: they are typed.

    Args:
        given: `--facts`: a file with one line each, or lines separated by `;`.
        profiles: `--profiles`: a dialogue file of which one persona is drawn.
        config: gives the file's format.
        seed: makes the draw repeatable.

    Raises:
        UserError: both are given, a file cannot be read, or there is no fact.
    """
    if given is not None and profiles is not None:
        raise UserError("--facts and --profiles both say where the facts come from; give one of them")
    if given is not None:
        return given_lines("--facts", given)
    if profiles is not None:
        return ProfileDraws(read_persona_dialogues(profiles, config), seed)()
    return None


@dataclass
class ProfileDraws:
    """Draws personas of dialogues, each call one, its facts in shuffled order.

    Args:
        dialogues: whose personas are drawn.
        seed: makes the draws repeatable.
        fewest: facts that a persona needs to be drawn.
        most: facts that it may have.

    Raises:
        UserError: no persona has so many facts.
    """

    dialogues: Sequence[PersonaDialogue]
    seed: int | None
    fewest: int = 1
    most: int = 1000

    def __post_init__(self) -> None:
        personas = {facts for dialogue in self.dialogues for facts in dialogue.facts}
        self.profiles = sorted(facts for facts in personas if self.fewest <= len(facts) <= self.most)
        if not self.profiles:
            raise UserError(
                f"{self.dialogues[0].where[0]}: no persona of this file has {self.fewest} to {self.most} facts"
            )
        self.generator = random.Random(self.seed)

    def __call__(self) -> list[str]:
        """The facts of one persona."""
        facts = self.generator.choice(self.profiles)
        return self.generator.sample(facts, len(facts))
