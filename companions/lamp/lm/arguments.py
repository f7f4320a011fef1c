"""The command lines of the commands that ask or train the LM: the original's flags as keys of the configuration."""

import argparse
from collections.abc import Sequence
from typing import Any, TypeVar

from companions.lamp.lm.settings import AnsweringConfig
from utils.config.flags import (
    Parser,
    add_engine_flags,
    add_resume_flag,
    add_section_flags,
    given_flags,
    with_config_of_run,
)
from utils.config.loading import COMMAND_LINE, parse_assignments, read_layers, validated
from utils.config.schema import nested, section_of

_AnyConfig = TypeVar("_AnyConfig", bound=AnsweringConfig)
_SWITCHES = {
    "use_profile": "items of the profile stand in the prompt",
    "is_ranked": "the profiles of the file are ranked already",
}


def answering_parser(config: type[AnsweringConfig], description: str, engine_runs: bool = False) -> Parser:
    """The flags of one command. A flag that is left out leaves the configuration's value.

    Args:
        config: of the command.
        description: what the command does.
        engine_runs: whether it trains.
    """
    parser = Parser(description)
    parser.add_argument("--config", metavar="FILE", help="YAML configuration, under what the flags say")
    for name, field in config.model_fields.items():
        section = section_of(field)
        assert section is not None, name
        add_section_flags(parser, section, f"{name}.")
    for name, words in _SWITCHES.items():
        parser.add_argument(f"--{name}", action="store_const", const=True, help=words)
    if engine_runs:
        parser.add_argument("--lr_scheduler_type", help="training.warmup_type: linear, or constant")
        parser.add_argument("--name", help="name of the run folder, before the time (default: the task)")
        add_resume_flag(parser)
    else:
        parser.add_argument("--output_dir", required=True, metavar="FOLDER", help="folder of what is written")
        parser.add_argument(
            "--per_device_batch_size", type=int, metavar="N", help="as --generation_batch_size"
        )
    parser.add_argument("--cache_dir", "--cache", help="accepted for the original's commands")
    add_engine_flags(parser, engine_runs)
    return parser


def read_arguments(
    config: type[_AnyConfig],
    description: str,
    arguments: Sequence[str] | None = None,
    engine_runs: bool = False,
) -> tuple[argparse.Namespace, _AnyConfig]:
    """The command line of one command, and the configuration that it asks for.

    Raises:
        UserError: an unknown flag, or what is wrong with the configuration.
    """
    if engine_runs:
        arguments = with_config_of_run(arguments)
    args: argparse.Namespace = answering_parser(config, description, engine_runs).parse_args(arguments)
    given: dict[str, Any] = {}
    for name, field in config.model_fields.items():
        section = section_of(field)
        assert section is not None, name
        given |= given_flags(args, section, f"{name}.")
    given |= {f"dataset.{name}": True for name in _SWITCHES if getattr(args, name)}
    if engine_runs and args.lr_scheduler_type:
        given["training.warmup_type"] = schedule_of(args.lr_scheduler_type)
    if not engine_runs and args.per_device_batch_size is not None:
        given.setdefault("generation.batch_size", args.per_device_batch_size)
    layers = [
        ("the defaults", {name: {} for name in config.model_fields}),
        *(read_layers(args.config) if args.config else []),
        (COMMAND_LINE, parse_assignments(args.assignments)),
        (COMMAND_LINE, nested(given)),
    ]
    return args, validated(layers, config)


def schedule_of(name: str) -> Any:
    """The library's names of the two schedules of the papers; others are taken for the project's own."""
    return {"linear": "Linear", "constant": None}.get(name, name)
