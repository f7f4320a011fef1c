"""How often a steered reply follows its action code, beside replies that nobody steered.

An interviewer without facts replies to openings of validation dialogues: once for each goal, with its action prompt,
and once without any, `<|p1|> <|sep|> <|start|> history`. A reply counts for a goal when it holds one of the goal's
keywords (`actions`). What chance gives on the same openings is the share of the replies to the other goals that do, and
that of the unsteered ones, whose prompt no training has shown to the LM.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from companions.personagpt.actions import follows, keywords_of
from companions.personagpt.prompts import action_prefix, persona_prefix, with_history
from companions.personagpt.settings import PersonaConfig
from companions.personagpt.tokens import TextEncoder, special_ids
from dataset.batch import Collator
from dataset.dialogue import Example
from dataset.encoding import EncodedExample
from dataset.row_files import KeptRows
from models.conversation import ConversationModel
from models.decoding.decode import decoding_batches
from models.decoding.generation import generate_replies
from utils.distributed import DistributedContext
from utils.errors import UserError

MAX_TURNS = 7
"""of an opening"""


@dataclass(frozen=True, slots=True)
class GoalScore:
    """How often replies hold a keyword of one goal."""

    goal: str
    keywords: tuple[str, ...]
    """the rule, see `actions`"""
    steered: float
    """share of the replies to its action prompt, 0 to 1"""
    others: float | None
    """share of the replies to the other goals' action prompts, on the same openings; None without other goals"""
    unsteered: float
    """share of the replies without an action prompt, on the same openings"""


@dataclass(frozen=True, slots=True)
class Following:
    """Following of action codes on one file."""

    openings: int
    goals: tuple[GoalScore, ...]
    samples: tuple[dict[str, Any], ...]
    """one opening with the replies to it, by goal, to be read"""

    @property
    def steered(self) -> float:
        """Mean over goals."""
        return _mean([score.steered for score in self.goals])

    @property
    def others(self) -> float | None:
        """Mean over goals."""
        shares = [score.others for score in self.goals if score.others is not None]
        return _mean(shares) if shares else None

    @property
    def unsteered(self) -> float:
        """Mean over goals."""
        return _mean([score.unsteered for score in self.goals])


def openings_of(examples: Sequence[Example], count: int, seed: int) -> list[tuple[str, ...]]:
    """Different beginnings of dialogues after which the speaker who opened them is to speak, of 0 to 7 turns.

    Args:
        examples: answers of both speakers.
        count: how many are drawn, at most; fewer where the file has fewer.
        seed: of the draw.

    Raises:
        UserError: there is none.
    """
    found = {
        tuple(example.context)
        for example in examples
        if len(example.context) <= MAX_TURNS and len(example.context) % 2 == 0
    }
    if not found:
        raise UserError("the validation file has no dialogue that the interviewer could continue")
    ordered = sorted(found)
    return random.Random(seed).sample(ordered, min(count, len(ordered)))


def interviewer_prompts(
    openings: Sequence[Sequence[str]],
    goal: str | None,
    model: ConversationModel,
    config: PersonaConfig,
) -> list[list[int]]:
    """The prompts of an interviewer after each opening, up to where the reply begins.

    Args:
        openings: turns, oldest first.
        goal: what the interviewer is to speak of; None: nobody says.
        model: gives the tokenizer, and the room that its positions leave.
        config: says which action prompt, and how long a reply may be.

    Raises:
        UserError: a goal with the newest turn does not fit.
    """
    ids, text = special_ids(model.tokenizer), TextEncoder(model.tokenizer)
    prefix = persona_prefix((), 1, ids)
    if goal is not None:
        prefix = action_prefix(text(goal), config.model.action_prompt, ids)
    limit, wanted = model.text_limit(config.decoding.max_new_tokens), config.dataset.max_token_length
    room = wanted if limit is None else min(limit, wanted)
    prompts = []
    for opening in openings:
        turns = [[*text(turn), ids.eos] for turn in opening]
        prompt = with_history(prefix, turns, ids, room - (not turns))
        if prompt is None:
            raise UserError(f"the goal {goal!r} and the newest turn are longer than {room} tokens")
        prompts.append(prompt if turns else [*prompt, ids.start])
    return prompts


def measure_following(
    model: ConversationModel,
    config: PersonaConfig,
    openings: Sequence[tuple[str, ...]],
    goals: Sequence[str],
    batch_size: int,
    seed: int,
    distributed: DistributedContext,
    kept: KeptRows | None = None,
) -> dict[int, str]:
    """This rank's share of the replies, by number: opening o of goal g is `g * len(openings) + o`, unsteered last.

    Args:
        model: in evaluation mode, on the device of the process.
        config: how it replies (`decoding`), and which action prompt it has.
        openings: what is replied to.
        goals: phrases of the action codes.
        batch_size: replies per batch.
        seed: of what is sampled. An opening has the same draws for every goal.
        distributed: the processes that share the work.
        kept: gets the replies batch by batch; those that it has are not generated again.

    Raises:
        UserError: a prompt does not fit, or a row cannot be kept.
    """
    eos_id = int(model.tokenizer.eos_token_id)
    collator = Collator(pad_id=eos_id)
    texts: list[EncodedExample] = []
    for goal in [*goals, None]:
        for place, prompt in enumerate(interviewer_prompts(openings, goal, model, config)):
            ids = np.array(prompt, dtype=np.int32)
            texts.append(EncodedExample(ids, len(ids), (), "", len(texts), place))
    planned = decoding_batches(texts, batch_size)
    batches = (
        planned[distributed.rank :: distributed.size] if kept is None else kept.left(planned, distributed)
    )
    replies = {number: row["reply"] for number, row in kept.rows.items()} if kept else {}
    bar = tqdm(total=len(texts), desc="steering", unit="ex", disable=not distributed.is_main, mininterval=0.5)
    with bar:
        for numbers in batches:
            batch = collator.inference([texts[number] for number in numbers]).to(distributed.device)
            found = generate_replies(model, batch, None, None, config.decoding, seed=seed)
            made = {number: reply.text for number, reply in zip(numbers, found, strict=True)}
            if kept is not None:
                kept.add({number: {"reply": text} for number, text in made.items()})
            replies |= made
            bar.update(len(numbers) * distributed.size)
    return replies


def score_following(
    replies: Sequence[str], openings: Sequence[tuple[str, ...]], goals: Sequence[str]
) -> Following:
    """Shares of replies that follow their goals.

    Args:
        replies: of all ranks, in the order of `measure_following`.
        openings: what they reply to.
        goals: phrases of the action codes.
    """
    count = len(openings)
    unsteered = replies[len(goals) * count :]
    scores = []
    for number, goal in enumerate(goals):
        own = slice(number * count, (number + 1) * count)
        others = [*replies[: own.start], *replies[own.stop : len(goals) * count]]
        scores.append(
            GoalScore(
                goal,
                keywords_of(goal),
                steered=_share(replies[own], goal),
                others=_share(others, goal) if others else None,
                unsteered=_share(unsteered, goal),
            )
        )
    samples = tuple(
        {
            "opening": list(opening),
            "unsteered": unsteered[place],
            "steered": {goal: replies[number * count + place] for number, goal in enumerate(goals)},
        }
        for place, opening in enumerate(openings[:3])
    )
    return Following(count, tuple(scores), samples)


def _mean(shares: Sequence[float]) -> float:
    return sum(shares) / len(shares)


def _share(replies: Sequence[str], goal: str) -> float:
    return _mean([follows(reply, goal) for reply in replies])
