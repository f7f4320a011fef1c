"""Where the facts of a persona come from: given on the command line, drawn from a dialogue file, or typed."""

import random
from dataclasses import dataclass

from companions.personagpt.prepared import read_persona_examples
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
        return ProfileDraws(profiles, config, seed)()
    return None


@dataclass
class ProfileDraws:
    """Draws personas from a dialogue file, each call one, its facts in shuffled order.

    Args:
        path: a dialogue file with both personas, or a prepared file.
        config: says how it is read.
        seed: makes the draws repeatable.
        fewest: facts that a persona needs to be drawn.
        most: facts that it may have.

    Raises:
        UserError: the file cannot be read, or no persona in it has so many facts.
    """

    path: str
    config: PersonaConfig
    seed: int | None
    fewest: int = 1
    most: int = 1000

    def __post_init__(self) -> None:
        examples = read_persona_examples(self.path, self.config)
        found = {example.persona for example in examples if self.fewest <= len(example.persona) <= self.most}
        if not found:
            raise UserError(f"{self.path}: no persona in it has {self.fewest} to {self.most} facts")
        self.profiles = sorted(found)
        self.generator = random.Random(self.seed)

    def __call__(self) -> list[str]:
        """The facts of one persona."""
        facts = self.generator.choice(self.profiles)
        return self.generator.sample(facts, len(facts))
