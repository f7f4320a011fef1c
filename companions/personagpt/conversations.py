"""What the commands of conversation do, once their flags are read."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from companions.personagpt.facts import facts_source
from companions.personagpt.speaking import is_run_folder, load_voice, read_speaker
from companions.personagpt.talks import ChatTalk, PersonaTalk, SteeredTalk
from models.decoding.shell import converse_in_terminal
from utils.distributed import DistributedContext

GOALS = (
    "ask about kids.",
    "ask about pets.",
    "talk about work.",
    "ask about marital status.",
    "talk about travel.",
    "ask about age and gender.",
    "ask about hobbies.",
    "ask about favorite food.",
    "talk about movies.",
    "talk about music.",
    "talk about politics.",
)


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
    goals = GOALS
    if not distributed.is_main:
        return
    voice = load_voice(args.model_path, config, distributed, args.seed)
    talk: PersonaTalk = SteeredTalk(voice, facts, goals) if args.mode == 1 else ChatTalk(voice, facts)
    # a folder of weights is no place for transcripts
    folder = args.model_path if args.model_path and is_run_folder(args.model_path) else "."
    converse_in_terminal(talk, Path(folder), ask)
