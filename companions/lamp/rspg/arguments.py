"""The command line of rspg: the original's flags as keys of the configuration."""

import argparse
from collections.abc import Sequence

from companions.lamp.ropg.arguments import original_parser, read_configuration
from companions.lamp.rspg.settings import RspgConfig
from utils.config.flags import Parser, with_config_of_run
from utils.errors import UserError


def rspg_parser() -> Parser:
    """The flags. One that is left out leaves the configuration's value."""
    flags = original_parser(
        "Train the scorer of retrieval strategies (RSPG), or predict with it.", RspgConfig, "rspg.yml"
    )
    flags.add_argument("--do_train", action="store_true", help="train")
    flags.add_argument(
        "--do_validation",
        action="store_true",
        help="write predictions and metrics of --val_data: with the scorer just trained, or that of --model_path",
    )
    flags.add_argument("--do_filtering", action="store_true", help="accepted for the original's commands")
    for flag in ("--save_freq", "--eval_print_freq", "--main_port"):
        flags.add_argument(flag, help="accepted for the original's commands")
    return flags


def read_arguments(arguments: Sequence[str] | None = None) -> tuple[argparse.Namespace, RspgConfig]:
    """The command line, and the configuration that it asks for.

    Raises:
        UserError: an unknown flag, nothing to do, or what is wrong with the configuration.
    """
    flags = rspg_parser()
    args = flags.parse_args(with_config_of_run(arguments))
    if getattr(args, "model.model_name") == "none":  # as the original has it
        setattr(args, "model.model_name", None)
    if not args.do_train and not args.do_validation:
        raise UserError("nothing to do: give --do_train, --do_validation or both")
    if args.resume and not args.do_train:
        raise UserError("--resume goes on with a training: give --do_train, too; --model_path predicts")
    return args, read_configuration(args, RspgConfig, "RSPG")
