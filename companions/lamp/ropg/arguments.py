"""The command line of train_kd and train_rl: the original's flags as keys of the configuration."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from companions.lamp.ropg.settings import FeedbackTrainingSettings, KDConfig, RLConfig
from utils.config.flags import (
    Parser,
    add_engine_flags,
    add_resume_flag,
    add_section_flags,
    given_flags,
    natural,
    positive,
    with_config_of_run,
)
from utils.config.loading import COMMAND_LINE, parse_assignments, read_layers, validated
from utils.config.schema import Section, nested, section_of
from utils.errors import UserError

FOLDER = Path(__file__).resolve().parents[3] / "config" / "lamp"
_AnyConfig = TypeVar("_AnyConfig", bound=Section)
_RopgConfig = TypeVar("_RopgConfig", KDConfig, RLConfig)
_SCHEDULES = {"fixed": None, "linear": "Linear"}


def ropg_parser(config: type[Section], method: str) -> Parser:
    """The flags of one method. A flag that is left out leaves the configuration's value."""
    parser = original_parser(
        f"Train the retriever on the LM's feedback (ROPG-{method.upper()}).", config, f"ropg-{method}.yml"
    )
    for flag in ("--cache_dir", "--main_port"):
        parser.add_argument(flag, help="accepted for the original's commands")
    parser.add_argument("--do_train", action="store_true", help="accepted for the original's commands")
    return parser


def read_arguments(
    config: type[_RopgConfig], method: str, arguments: Sequence[str] | None = None
) -> tuple[argparse.Namespace, _RopgConfig]:
    """The command line of one method, and the configuration that it asks for.

    Raises:
        UserError: an unknown flag, or what is wrong with the configuration.
    """
    args: argparse.Namespace = ropg_parser(config, method).parse_args(with_config_of_run(arguments))
    return args, read_configuration(args, config, f"ROPG-{method.upper()}")


def original_parser(description: str, config: type[Section], file: str) -> Parser:
    """The flags that the original's training commands share.

    Args:
        description: what the command does.
        config: the configuration, each of whose sections' flags are added.
        file: its default file in config/lamp.
    """
    parser = Parser(description)
    parser.add_argument(
        "--config",
        default=str(FOLDER / file),
        metavar="FILE",
        help="YAML configuration (default: config/lamp's, with the paper's values)",
    )
    for name, field in config.model_fields.items():
        add_section_flags(parser, section_of(field) or Section, f"{name}.")
    parser.add_argument("--name", default="experiment_name", help="name of the run folder, before the time")
    parser.add_argument("--scheduler", choices=sorted(_SCHEDULES), help="training.warmup_type null or Linear")
    parser.add_argument(
        "--warmup_steps", type=natural, help="training.warmup_ratio, as a part of --total_steps"
    )
    parser.add_argument("--scheduler_steps", type=positive, help="the last step; must be --total_steps")
    parser.add_argument("--fixed_lr", action="store_true", help="--scheduler linear does not fall again")
    parser.add_argument("--local-rank", dest="local_rank", type=int, default=-1, help="as --local_rank")
    add_resume_flag(parser)
    add_engine_flags(parser, engine_runs=True)
    return parser


def read_configuration(args: argparse.Namespace, config: type[_AnyConfig], what: str) -> _AnyConfig:
    """The configuration that flags of `original_parser` ask for.

    Args:
        args: the flags.
        config: the configuration, with a section `training`.
        what: what it is of, for messages.

    Raises:
        UserError: what is wrong with it.
    """
    given: dict[str, Any] = {}
    for name, field in config.model_fields.items():
        given |= given_flags(args, section_of(field) or Section, f"{name}.")
    layers = [
        *read_layers(args.config),
        (COMMAND_LINE, parse_assignments(args.assignments)),
        (COMMAND_LINE, nested(given | _schedule(args))),
    ]
    made = validated(layers, config, what)
    # every configuration that comes here has that section
    return made.replaced(_warmup(args, made.training))  # type: ignore[attr-defined]


def _schedule(args: argparse.Namespace) -> dict[str, Any]:
    if args.scheduler is None:
        return {}
    kind = "LinearWarmup" if args.fixed_lr and args.scheduler == "linear" else _SCHEDULES[args.scheduler]
    return {"training.warmup_type": kind}


def _warmup(args: argparse.Namespace, training: FeedbackTrainingSettings) -> dict[str, Any]:
    """What the original counts in steps.

    Raises:
        UserError: the number of all steps is not known, or smaller; or the schedule ends elsewhere than the training.
    """
    total = training.total_steps
    if args.scheduler_steps not in (None, total):
        raise UserError(
            f"--scheduler_steps {args.scheduler_steps}: the learning rate is at 0 after the last step; leave it out, "
            f"or give --total_steps {args.scheduler_steps}"
        )
    if args.warmup_steps is None or training.warmup_type is None:
        return {}
    if total is None or args.warmup_steps > total:
        raise UserError(
            f"--warmup_steps {args.warmup_steps} needs --total_steps of at least as many; "
            "training.warmup_ratio is a share of all steps"
        )
    return {"training": {"warmup_ratio": args.warmup_steps / total}}
