"""Talking to a trained run: a persona, a history, commands, and the prompt that each reply was given."""

import dataclasses
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers.utils import logging as transformers_logging

from dataset.dialogue import Dialogue, Example
from dataset.lines import text_lines
from dataset.readers import read_dialogues
from dataset.text import SELF_MARK, label_turns
from models.conversation import ConversationModel
from models.decoding.generation import Reply, choose_prompts, generate_replies
from models.decoding.runs import load_run, read_run_config
from models.decoding.shell import converse_in_terminal, is_no_text, save_transcript
from models.reading import make_collator, make_encoder, texts_of
from models.routing.router import LinearRouter
from models.routing.saved import router_of
from models.settings import Config
from utils.distributed import DistributedContext
from utils.errors import UserError
from utils.precision import decide_precision
from utils.runs import find_runs

HELP = """\
  exit    end the conversation
  clear   forget the history, keep the persona
  r       take another persona (or read the persona file again) and forget the history
  save    write the conversation to a file
  help    this list
anything else is said to the model"""


@dataclass
class Conversation:
    """The state of one chat: persona, history, and who answers. A `Talk` of the shell.

    Args:
        model: a trained model in evaluation mode.
        config: its configuration.
        draw_persona: gives the persona lines; asked at the start and at each `r`.
        device: where the model is.
        seed: of what is drawn, tokens or prompts.
        router: chooses the prompts instead of the model.
    """

    model: ConversationModel
    config: Config
    draw_persona: Callable[[], Sequence[str]]
    device: torch.device | str
    seed: int = 0
    router: LinearRouter | None = None
    persona: tuple[str, ...] = field(init=False)
    history: list[str] = field(init=False)
    transcript: list[str] = field(init=False)

    prompt: ClassVar[str] = "you> "
    is_over: ClassVar[bool] = False
    """it goes on for as long as the user likes"""

    def __post_init__(self) -> None:
        self.settings = self.config.chat
        limit = self.model.text_limit(self.settings.max_new_tokens)
        self.encoder = make_encoder(self.model.tokenizer, self.config, limit)
        self.collator = make_collator(self.encoder, self.config, decoding=True)
        self.reload()

    def reload(self) -> None:
        """Take the next persona and forget the history."""
        self.persona = tuple(self.draw_persona())
        self.clear()

    def clear(self) -> None:
        """Forget the history."""
        self.history, self.transcript = [], []

    def say(self, utterance: str) -> Reply:
        """The model's reply to an utterance; both enter the history.

        Raises:
            UserError: persona and utterance alone do not fit the LM.
        """
        example = self._example(utterance)
        encoded = self.encoder.encode([example], with_response=False)
        batch = self.collator.inference(encoded).to(self.device)
        seed = self.seed + len(self.history)
        routed = None if self.router is None else self.router.scores_of(self.model.lm, encoded)
        scores, choice = choose_prompts(self.model, batch, seed=seed, scores=routed)
        reply = generate_replies(self.model, batch, scores, choice, self.settings, seed=seed)[0]
        text = texts_of(self.config).cut(reply.text).strip()
        self.history += [utterance, text]
        shown = "" if reply.prompt is None else f" [prompt {reply.prompt}]"
        self.transcript += [*label_turns([utterance]), f"{SELF_MARK}{text}{shown}"]
        return dataclasses.replace(reply, text=text)

    def _example(self, utterance: str) -> Example:
        """Persona, history and utterance; for a run of the authors' without the oldest turns that do not fit.

        The encoder drops these itself for our runs. A text of the authors' is cut at its end, where the newest
        message stands: the model would no longer hear what is said to it.
        """
        for start in range(len(self.history) + 1):
            context = (*self.history[start:], utterance)
            example = Example(self.persona, context, "", 0, len(context) // 2, "this message")
            if self.encoder.drops_turns or self.encoder.fits(example):
                return example
        raise UserError(
            f"this message: with the persona it is longer than the {self.encoder.max_tokens} tokens that fit"
        )

    def opening(self) -> list[str]:
        """The persona, and where the commands are found."""
        return [self._persona_block(), "type help for the commands"]

    def answer(self, line: str) -> list[str]:
        """The reply to a line, or what a command does.

        Raises:
            UserError: what was asked for cannot be done.
        """
        said = line.strip()
        command = said.lower()
        if command == "help":
            return [HELP]
        if command == "clear":
            self.clear()
            return ["history cleared"]
        if command == "r":
            self.reload()
            return [self._persona_block()]
        if not said:
            return []
        reply = self.say(said)
        return [f"bot{'' if reply.prompt is None else f' [prompt {reply.prompt}]'}> {reply.text}"]

    def _persona_block(self) -> str:
        return "\n".join(["persona:", *(f"  {line}" for line in self.persona or ["(none)"])])

    def save(self, folder: Path) -> Path:
        """Write persona and conversation to the next free `chat_{n}.txt` in `folder`."""
        persona = [f"persona: {line}" for line in self.persona]
        return save_transcript(folder, "\n".join([*persona, *self.transcript]) + "\n")


def persona_source(
    given: str | None, config: Config, valid_path: str | None, seed: int | None
) -> Callable[[], Sequence[str]]:
    """Where personas come from.

    Args:
        given: `--persona`: a file with one line each, or lines separated by `;`; None draws from the
            validation file.
        config: gives the validation file and its format.
        valid_path: another dialogue file to draw from.
        seed: makes the draws repeatable.

    Raises:
        UserError: the dialogue file is missing, or the persona is empty.
    """
    if given is not None:
        given_lines("--persona", given)  # a mistake is told before the model is loaded
        return lambda: given_lines("--persona", given)
    dialogues = read_dialogues(valid_path or config.dataset.valid, config.dataset.format)
    generator = random.Random(seed)
    return lambda: _draw(dialogues, generator)


def _draw(dialogues: Sequence[Dialogue], generator: random.Random) -> tuple[str, ...]:
    return generator.choice(dialogues).persona


def given_lines(flag: str, given: str) -> list[str]:
    """The persona lines that a flag gives: of a file with one line each, or separated by `;`.

    Raises:
        UserError: the file cannot be read, or there is no line.
    """
    if is_no_text(given):
        raise UserError(f"{flag} {given!a}: it holds bytes that are not UTF-8 text")
    looks_like_file = given.endswith(".txt") or os.path.isfile(given)  # a long text is no error to os.path
    if looks_like_file and not os.path.isfile(given):
        raise UserError(f"{flag} {given}: no such file")
    parts = text_lines(given, f"{flag}: file") if looks_like_file else given.split(";")
    lines = [part.strip() for part in parts if part.strip()]
    if not lines:
        raise UserError(f"{flag} {given!r}: no persona line; write 'i like to ski.; i have two cats.'")
    return lines


def chat_with_run(
    model_path: str,
    distributed: DistributedContext,
    persona: str | None,
    valid_path: str | None,
    seed: int | None,
    assignments: Sequence[str],
    flags: Mapping[str, Any] | None = None,
    ask: Callable[[str], str] | None = None,
) -> None:
    """Load a run folder and talk to it; only the main process talks.

    Raises:
        UserError: what is wrong with the folder or the persona.
    """
    run, *others = find_runs(model_path)
    if others:
        distributed.say(f"automatic choice: {run}, the first of {1 + len(others)} runs in {model_path}")
    config = read_run_config(run, assignments, flags)
    precision, reason = decide_precision(config.model.load_bit, "model.load_bit")
    config = config.replaced({"model": {"load_bit": precision}})
    if reason:
        distributed.say(f"automatic choice: {reason}")
    draw = persona_source(persona, config, valid_path, seed)
    if not distributed.is_main:
        return
    transformers_logging.set_verbosity_error()  # it warns that no_repeat_ngram_size sees the reply alone
    transformers_logging.disable_progress_bar()
    model = load_run(run, config).to(distributed.device)
    # whoever samples without a seed wants other replies each time
    drawn = seed if seed is not None else random.randrange(2**31)
    router = router_of(run, model, config.chat)
    chat = Conversation(
        model, config, draw, distributed.device, drawn if config.chat.do_sample else 0, router
    )
    converse_in_terminal(chat, run, ask)
