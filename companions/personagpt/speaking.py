"""From a run folder, or from published weights, to an LM that talks."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from companions.personagpt import NAME, register_personagpt
from companions.personagpt.agents import Voice
from companions.personagpt.settings import PersonaConfig
from models.configuration import build_config
from models.conversation import ConversationModel
from models.decoding.runs import load_run, read_run_config
from models.registry import build_model, build_tokenizer
from utils.config.loading import COMMAND_LINE, parse_assignments
from utils.config.schema import merge
from utils.distributed import DistributedContext
from utils.errors import UserError
from utils.precision import decide_precision
from utils.runs import CONFIG


def read_speaker(
    source: str | None, assignments: Sequence[str], flags: Mapping[str, Any] | None = None
) -> PersonaConfig:
    """The configuration of whoever is to speak.

    Args:
        source: `--model_path`: a run folder, or a folder of weights in the Hugging Face format; None: `--set
            model.model_name` names the weights.
        assignments: texts `section.key=value`.
        flags: nested sections from the command's own flags.

    Raises:
        UserError: a run of another model type, or with other weights, or a configuration that is not valid.
    """
    register_personagpt()
    if source is not None and is_run_folder(source):
        check_no_other_weights(source, assignments)
        config = read_run_config(Path(source), assignments, flags)
    else:
        named = {} if source is None else {"model_name": source}
        weights = ("--model_path", {"model": {"model_type": NAME, **named}})
        config = build_config([weights, (COMMAND_LINE, merge(parse_assignments(assignments), flags or {}))])
    if not isinstance(config, PersonaConfig):
        raise UserError(f"{source}: a run of model_type {config.model.model_type}, one of {NAME} is needed")
    return config


def is_run_folder(source: str) -> bool:
    """Whether a folder is a run's, and no bare weights."""
    return (Path(source) / CONFIG).is_file()


def check_no_other_weights(run: str, assignments: Sequence[str]) -> None:
    """A run has an LM of its own, and that of another name would not be used.

    Raises:
        UserError: `--set` names one.
    """
    if "model_name" in parse_assignments(assignments).get("model", {}):
        raise UserError(
            f"{run} is a run, with an LM of its own: leave out --set model.model_name or --model_path"
        )


def rows_drawn(count: int) -> str:
    """What an LM without rows for the special tokens is used with."""
    return f"{count} rows drawn at random, for tokens that this LM was not trained with"


def load_voice(
    source: str | None, config: PersonaConfig, distributed: DistributedContext, seed: int | None
) -> Voice:
    """The LM of a configuration from `read_speaker`.

    Raises:
        UserError: it cannot be loaded.
    """
    precision, reason = decide_precision(config.model.load_bit, "model.load_bit")
    config = config.replaced({"model": {"load_bit": precision}})
    if reason:
        distributed.say(f"automatic choice: {reason}")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    model: ConversationModel
    if source is not None and is_run_folder(source):
        model = load_run(Path(source), config)
    else:
        model = build_model(config, build_tokenizer(config)).eval()
    if added := getattr(model, "rows_added", 0):
        distributed.say(f"automatic choice: {rows_drawn(added)}")
    # whoever samples without a seed wants other replies each time
    drawn = seed if seed is not None else random.randrange(2**31)
    return Voice(model.to(distributed.device), config, distributed.device, drawn)
