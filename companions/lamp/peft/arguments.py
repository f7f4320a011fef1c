"""The command line of train_peft: the original's flags as keys of the configuration."""

import argparse
from collections.abc import Sequence

from companions.lamp.lm.arguments import schedule_of
from companions.lamp.peft.settings import UserTrainConfig
from utils.config.flags import Parser, add_engine_flags, add_section_flags, given_flags
from utils.config.loading import COMMAND_LINE, parse_assignments, read_layers, validated
from utils.config.schema import nested, section_of

_SECTIONS = {
    f"{name}.": section
    for name, field in UserTrainConfig.model_fields.items()
    if (section := section_of(field)) is not None
}


def training_parser() -> Parser:
    """The flags. One that is left out leaves the configuration's value."""
    parser = Parser("Train a LoRA adapter for each user of a file.")
    parser.add_argument("--config", metavar="FILE", help="YAML configuration, under what the flags say")
    for prefix, section in _SECTIONS.items():
        add_section_flags(parser, section, prefix)
    parser.add_argument("--lr_scheduler_type", help="training.warmup_type: linear, or constant")
    parser.add_argument("--output_dir", required=True, metavar="FOLDER", help="gets adaptors/USER/")
    for flag in ("--generation_max_length", "--cache", "--cache_dir"):
        parser.add_argument(flag, help="accepted for the original's commands")
    add_engine_flags(parser)
    return parser


def read_training_arguments(
    arguments: Sequence[str] | None = None,
) -> tuple[argparse.Namespace, UserTrainConfig]:
    """The command line, and the configuration that it asks for.

    Raises:
        UserError: an unknown flag, or what is wrong with the configuration.
    """
    args = training_parser().parse_args(arguments)
    given = {
        key: value
        for prefix, section in _SECTIONS.items()
        for key, value in given_flags(args, section, prefix).items()
    }
    if args.lr_scheduler_type:
        given["training.warmup_type"] = schedule_of(args.lr_scheduler_type)
    layers = [
        ("the defaults", {name: {} for name in UserTrainConfig.model_fields}),
        *(read_layers(args.config) if args.config else []),
        (COMMAND_LINE, parse_assignments(args.assignments)),
        (COMMAND_LINE, nested(given)),
    ]
    return args, validated(layers, UserTrainConfig)
