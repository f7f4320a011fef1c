"""Those who talk: a persona bot and an interviewer, on one LM.

The history that both see is a list of turns, each the token ids of one line with its end, oldest first; its length says
whose turn it is. Prompts come from prompts.py, replies from the decoding of the floors below.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from companions.personagpt.prompts import ActionVariant, action_prefix, persona_prefix, with_history
from companions.personagpt.settings import PersonaChatSettings, PersonaConfig
from companions.personagpt.tokens import TextEncoder, special_ids
from dataset.batch import Collator
from dataset.encoding import EncodedExample
from models.conversation import ConversationModel
from models.decoding.generation import generate_replies
from utils.errors import UserError


@dataclass(frozen=True, slots=True)
class Line:
    """One generated line of a conversation."""

    prompt: tuple[int, ...]
    """ids that it was generated from; `<|start|>` included, also before turn 0"""
    ids: tuple[int, ...]
    """ids that enter the history; with eos, unless `fidelity: released_code` cut it"""
    text: str
    """without special tokens, as the LM wrote it"""


@dataclass
class Voice:
    """The LM of the agents, and how it replies.

    With `fidelity: paper` the oldest turns are dropped where `chat.reply_room` tokens would not be left for the reply,
    and a reply that is cut by the limit is ended in the history. With `released_code` no turn is dropped, a prompt that
    is not shorter than `chat.max_length` is answered with one token, and a cut reply runs into the next turn.

    Args:
        model: a trained model in evaluation mode.
        config: its configuration.
        device: where the model is.
        seed: of what is drawn.
    """

    model: ConversationModel
    config: PersonaConfig
    device: torch.device | str = "cpu"
    seed: int = 0
    replies: int = field(default=0, init=False)
    """how many were generated; each has draws of its own"""

    def __post_init__(self) -> None:
        tokenizer = self.model.tokenizer
        self.settings: PersonaChatSettings = self.config.chat
        self.released = self.config.model.released
        self.ids = special_ids(tokenizer)
        self.text = TextEncoder(tokenizer)
        self.collator = Collator(
            self.ids.eos if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
        )
        longest = self.settings.max_length
        self.longest = min(longest, self.model.text_limit(0) or longest)
        """tokens of prompt and reply"""
        kept = min(self.settings.reply_room, self.longest // 2)
        self.room = (self.model.text_limit(1) or 2**31) if self.released else self.longest - kept
        """tokens of a prompt"""

    def turn(self, text: str) -> list[int]:
        """A line with its end: `text EOS`."""
        return [*self.text(text), self.ids.eos]

    def prompt(self, prefix: Sequence[int], turns: Sequence[Sequence[int]]) -> list[int]:
        """Prefix and history up to where the reply begins, so with `<|start|>`.

        Raises:
            UserError: prefix and newest line leave no room for a reply.
        """
        # `with_history` leaves <|start|> out where there is no turn
        budget = None if self.released else self.room - (not turns)
        prompt = with_history(prefix, turns, self.ids, budget)
        if prompt is not None and not turns:
            prompt.append(self.ids.start)
        if prompt is None or len(prompt) > self.room:
            raise UserError(
                f"facts, or action code, and newest line are longer than the {self.room} tokens that a prompt may "
                "have; say less, or raise chat.max_length (--max_length) as far as the LM has positions"
            )
        return prompt

    def reply(self, prefix: Sequence[int], turns: Sequence[Sequence[int]], tokens_per_step: int = 1) -> Line:
        """The next line.

        Args:
            prefix: of the agent who speaks.
            turns: the history.
            tokens_per_step: what each generated token counts against the limit.

        Raises:
            UserError: prefix and newest line leave no room for a reply.
        """
        prompt = self.prompt(prefix, turns)
        left = math.ceil((self.longest - len(prompt)) / tokens_per_step)
        new_tokens = min(max(1, left), self.settings.max_new_tokens)
        example = EncodedExample(np.array(prompt, dtype=np.int32), len(prompt), (), "", 0, self.replies)
        batch = self.collator.inference([example]).to(self.device)
        settings = self.settings.replaced({"max_new_tokens": new_tokens})
        reply = generate_replies(self.model, batch, None, None, settings, seed=self.seed)[0]
        self.replies += 1
        cut = reply.ids[-1] != self.ids.eos
        ids = (*reply.ids, self.ids.eos) if cut and not self.released else reply.ids
        return Line(tuple(prompt), ids, reply.text)


@dataclass
class PersonaBot:
    """Speaks for a persona.

    Args:
        voice: the LM.
        facts: the persona, a line each.
        speaker: 1 opens the dialogue, 2 answers.
    """

    voice: Voice
    facts: Sequence[str]
    speaker: int = 2

    def prefix(self) -> list[int]:
        """`<|pK|> fact1 EOS ... <|sep|>`."""
        return persona_prefix(self.voice.text.encode(self.facts), self.speaker, self.voice.ids)

    def reply(self, turns: Sequence[Sequence[int]]) -> Line:
        """The next line after a history.

        Raises:
            UserError: facts and newest line leave no room for a reply.
        """
        return self.voice.reply(self.prefix(), turns)


@dataclass
class Interviewer:
    """Speaker 1, who follows action codes and has no facts.

    Args:
        voice: the LM; its configuration says which action prompt.
    """

    voice: Voice

    def prefix(self, goal: str) -> list[int]:
        """The action prompt of a goal such as "ask about pets."."""
        variant: ActionVariant = self.voice.config.model.action_prompt
        return action_prefix(self.voice.text(goal), variant, self.voice.ids)

    def reply(self, turns: Sequence[Sequence[int]], goal: str) -> Line:
        """The next line after a history, towards a goal.

        Raises:
            UserError: action code and newest line leave no room for a reply.
        """
        return self.voice.reply(self.prefix(goal), turns)


def self_play(voice: Voice, first: Sequence[str], second: Sequence[str], exchanges: int) -> list[Line]:
    """Two personas talk to each other; the first one opens.

    With `fidelity: released_code` each generated token counts twice against the limit, as in the release's loop.

    Args:
        voice: the LM of both.
        first: facts of speaker 1.
        second: facts of speaker 2.
        exchanges: of two lines each.

    Raises:
        UserError: the facts leave no room for a reply.
    """
    bots = [PersonaBot(voice, first, 1), PersonaBot(voice, second, 2)]
    lines: list[Line] = []
    for number in range(2 * exchanges):
        prefix = bots[number % 2].prefix()
        lines.append(voice.reply(prefix, [line.ids for line in lines], 2 if voice.released else 1))
    return lines
