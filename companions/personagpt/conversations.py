"""What the commands of conversation do, once their flags are read."""

import argparse
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from companions.personagpt.action_files import text_pairs
from companions.personagpt.actions import goals_in
from companions.personagpt.agents import self_play
from companions.personagpt.chain import read_chain, train_chain
from companions.personagpt.dialogues import cleaned
from companions.personagpt.facts import ProfileDraws, facts_source
from companions.personagpt.gym import Gym
from companions.personagpt.prepared import read_persona_dialogues
from companions.personagpt.prompts import speaker_of
from companions.personagpt.records import Records
from companions.personagpt.rehearsal import training_arguments, write_rehearsal
from companions.personagpt.speaking import is_run_folder, load_voice, read_speaker
from companions.personagpt.talks import ChatTalk, PersonaTalk, SteeredTalk
from models.decoding.chat import given_lines
from models.decoding.shell import converse_in_terminal
from utils.distributed import DistributedContext
from utils.errors import UserError


def interact(
    args: argparse.Namespace,
    flags: Mapping[str, Any],
    distributed: DistributedContext,
    ask: Callable[[str], str] | None = None,
) -> None:
    """Load an LM and talk to it in one of the two modes; only the main process talks.

    Raises:
        UserError: what is wrong with the LM, the facts or the goals.
    """
    config = read_speaker(args.model_path, args.assignments, flags)
    facts = facts_source(args.facts, args.profiles, config, args.seed)
    goals = goals_in(config.dataset.goals)
    partner = None if args.partner is None else given_lines("--partner", args.partner)
    if partner and facts is None:
        raise UserError("--partner needs the facts of the first bot too: --facts or --profiles")
    if not distributed.is_main:
        return
    voice = load_voice(args.model_path, config, distributed, args.seed)
    if partner and facts:
        for number, line in enumerate(self_play(voice, partner, facts, voice.settings.num_turns)):
            distributed.say(f"bot {speaker_of(number)}: {cleaned(line.text)}")
        return
    talk: PersonaTalk = SteeredTalk(voice, facts, goals) if args.mode == 1 else ChatTalk(voice, facts)
    # a folder of weights is no place for transcripts
    folder = args.model_path if args.model_path and is_run_folder(args.model_path) else "."
    converse_in_terminal(talk, Path(folder), ask)


def learn(
    args: argparse.Namespace,
    flags: Mapping[str, Any],
    distributed: DistributedContext,
    ask: Callable[[str], str] | None = None,
) -> None:
    """Load an LM, let a human judge and correct what it says, and train on the corrections or say how.

    Raises:
        UserError: what is wrong with the LM, the personas, the goals or the files.
    """
    out = Path(args.out)
    accepted = Path(args.accepted) if args.accepted else out.with_suffix(".accepted.jsonl")
    for path in (out, accepted):
        if path.suffix != ".jsonl" or not path.parent.is_dir():
            raise UserError(f"{path}: a name that ends with .jsonl, in a folder that is there, is needed")
    if distributed.size > 1:
        raise UserError("learn is one conversation: start it as one process")
    config = read_speaker(args.model_path, args.assignments, flags)
    goals = goals_in(config.dataset.goals)
    old = read_persona_dialogues(args.profiles or config.dataset.train, config)
    draw = ProfileDraws(old, args.seed, fewest=3, most=5)
    rehearsal = out.with_suffix(".rehearsal.jsonl")
    lm = args.model_path or str(config.model.model_name)
    given = {name: getattr(args, name) for name in ("config", "log_dir", "deepspeed_config")}
    passed_on = [f"--{name}={value}" for name, value in given.items() if value is not None]
    arguments = training_arguments(passed_on, lm, out, rehearsal, config)
    training = read_chain(arguments)  # a mistake in its configuration is told before the conversations
    if args.train:
        read_persona_dialogues(
            config.dataset.valid, config
        )  # so is one in a file that only the training reads
    records = Records(out, accepted)
    voice = load_voice(args.model_path, config, distributed, args.seed)
    completed = converse_in_terminal(Gym(voice, goals, draw, records, args.dialogues), Path(), ask)
    distributed.say(f"{records.added} corrections added to {out}")
    if not records.added:
        return
    write_rehearsal(rehearsal, old, len(text_pairs(out)), config, args.seed)
    if args.train and completed:
        del voice  # its memory is the trainer's
        train_chain(training, distributed)
    else:
        distributed.say(f"train on them: python -m companions.personagpt.train {shlex.join(arguments)}")
