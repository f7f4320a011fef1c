"""Runs that follow on one another: each begins with the LM of the run before it."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from companions.personagpt.settings import PersonaConfig
from companions.personagpt.task import persona_task
from models.arguments import changes_in_name, read_train_arguments, train_parser
from trainer.ds_config import DEFAULT_PATH, read_ds_config
from trainer.engine import accumulation_steps
from trainer.training import train
from utils.config.flags import Parser
from utils.distributed import DistributedContext
from utils.errors import UserError
from utils.runs import run_name


class Link(NamedTuple):
    """One run of a chain."""

    args: argparse.Namespace
    """train.py's flags"""
    config: PersonaConfig


def read_chain(arguments: Sequence[str] | None = None) -> list[Link]:
    """A command line as train.py's, but that `--config` may be given several times: a run each.

    With `--resume RUN` that run goes on first, and those of `--config` follow on it.

    Raises:
        UserError: an unknown flag, or what is wrong with one of the configurations.
    """
    first = Parser("", add_help=False)
    first.add_argument("--config", action="append", default=[], metavar="FILE")
    first.add_argument("--resume", metavar="RUN")
    known, others = first.parse_known_args(arguments)
    begun = [] if known.resume is None else [f"--resume={known.resume}"]
    if not known.config and not begun:  # `--help`, or the line that --config is needed
        train_parser(PersonaConfig).parse_args(others)
    links = []
    for run in [*begun, *(f"--config={path}" for path in known.config)]:
        args, config = read_train_arguments([run, *others])
        if not isinstance(config, PersonaConfig):
            raise UserError(
                f"{args.config}: model.model_type = {config.model.model_type}: personagpt is needed; train.py trains "
                "others"
            )
        links.append(Link(args, config))
    for args, config in links:
        _check(args, config)
    for args, config in links[:-1]:
        if not config.training.save_model:
            raise UserError(
                f"{args.config}: training.save_model: false leaves the next run nothing to begin with"
            )
    return links


def train_chain(links: Sequence[Link], distributed: DistributedContext) -> list[Path]:
    """Train one run after the other.

    Args:
        links: of `read_chain`; from the second on, `model.model_name` is the run before.
        distributed: the processes.

    Returns:
        The run folders.

    Raises:
        UserError: see `trainer.training.train`; what is wrong with the files of a later run is told before the first.
    """
    runs: list[Path] = []
    for _, config in links:
        persona_task(config)
    for args, config in links:
        if runs:
            config = config.replaced({"model": {"model_name": str(runs[-1])}})
        name = run_name(args.config, changes_in_name(args, type(config)), args.exp_name)
        task = persona_task(config)
        runs.append(train(task, distributed, name, args.deepspeed_config, args.ckpt_path, args.resume))
    return runs


def _check(args: argparse.Namespace, config: PersonaConfig) -> None:
    path = args.deepspeed_config or DEFAULT_PATH
    steps = accumulation_steps(read_ds_config(path))
    if config.model.released and steps > 1:
        raise UserError(
            f"{path}: gradient_accumulation_steps = {steps}: with model.fidelity: released_code a batch is a whole "
            "update, training.batch_size its number of examples; 1 is needed"
        )
