"""The command line of train.py: flags that the sections of the configuration declare, and a few of its own."""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from models.configuration import build_config, config_layers, type_name
from models.registry import MODEL_TYPES, model_type
from models.settings import Config
from models.spt.settings import SelectiveConfig
from utils.config.flags import (
    Parser,
    add_engine_flags,
    add_resume_flag,
    add_section_flags,
    boolean,
    flagged_keys,
    given_flags,
    with_config_of_run,
)
from utils.config.loading import COMMAND_LINE
from utils.config.schema import Section, nested, section_of
from utils.errors import UserError

# in this order the run's name tells what the command line changed (docs/method.md, section 5)
_LABELS = ("LR", "SLW", "CTRW", "NOISE", "PTRAIN")
_OF_OTHER_SCRIPTS = ("decoding", "chat")  # sections whose flags train.py has not


def train_parser(config: type[Config], hint: Callable[[str], str] = lambda flag: "") -> Parser:
    """Flags of train.py for one model type. A flag that is left out leaves the configuration's value.

    Args:
        config: the type's configuration, whose sections have the flags.
        hint: more words on a flag that is unknown.
    """
    parser = Parser("Train a model on dialogues.", hint=hint)
    parser.add_argument("--config", required=True, metavar="FILE", help="YAML configuration")
    for name in _sections(config):
        add_section_flags(parser, _section(config, name), f"{name}.")
    parser.add_argument("--bf16", type=boolean, metavar="yes|no", help="yes: model.load_bit becomes bf16")
    parser.add_argument(
        "--tokenizer_parallel",
        type=boolean,
        default=True,
        metavar="yes|no",
        help="let the tokenizers library use threads of its own",
    )
    parser.add_argument(
        "--do_test", type=boolean, default=False, metavar="yes|no", help="decode when trained"
    )
    parser.add_argument("--exp_name", help="run name instead of the configuration's file stem")
    parser.add_argument("--ckpt_path", metavar="RUN", help="start from the trained part of this run folder")
    add_resume_flag(parser)
    add_engine_flags(parser, engine_runs=True)
    return parser


def read_train_arguments(arguments: Sequence[str] | None = None) -> tuple[argparse.Namespace, Config]:
    """The command line of train.py, and the configuration that it asks for.

    Read twice, as the configuration's model type decides which flags there are.

    Raises:
        UserError: an unknown flag, or what is wrong with the configuration.
    """
    first = Parser("", add_help=False)
    arguments = with_config_of_run(arguments)
    first.add_argument("--config", metavar="FILE")
    first.add_argument("--set", action="append", default=[], dest="assignments")
    first.add_argument("-h", "--help", action="store_true")
    known, _ = first.parse_known_args(arguments)
    if known.config is None:  # `--help`, which must not wait for torch, or the line that --config is needed
        train_parser(SelectiveConfig).parse_args(arguments)
    try:
        layers = config_layers(known.config, known.assignments)
        name = type_name(layers)
    except UserError:
        if known.help:  # is of use above all to whom the configuration is not right yet
            train_parser(SelectiveConfig).parse_args(["--help"])
        raise
    config = model_type(name).config_class()
    args = train_parser(config, partial(_types_with_flag, name)).parse_args(arguments)
    for flag in ("ckpt_path", "exp_name"):
        if args.resume is not None and getattr(args, flag) is not None:
            raise UserError(f"--resume goes on with the name and the start of its run; leave --{flag} out")
    made = build_config([*layers, (COMMAND_LINE, train_flags(args, config))])
    if args.do_test and not made.training.save_model:
        raise UserError(
            "--do_test=yes needs the checkpoint that training.save_model: false (--save_model=no) does not keep"
        )
    return args, made


def _types_with_flag(asked: str, flag: str) -> str:
    """Which model types have a flag that the one asked for has not."""
    found = []
    for name in MODEL_TYPES:
        config = model_type(name).config_class()
        flags = [key.flag.name for part in _sections(config) for key in flagged_keys(_section(config, part))]
        if flag.removeprefix("--") in flags:
            found.append(name)
    return f": model_type {asked} has no such flag; it is one of {', '.join(found)}" if found else ""


def train_flags(args: argparse.Namespace, config: type[Config]) -> dict[str, Any]:
    """The settings that train.py's flags give, as sections of the configuration."""
    given: dict[str, Any] = {"model.load_bit": "bf16"} if args.bf16 else {}
    for name in _sections(config):
        given |= given_flags(args, _section(config, name), f"{name}.")
    return nested(given)


def changes_in_name(args: argparse.Namespace, config: type[Config]) -> list[tuple[str, Any]]:
    """What the command line changed, as it stands in the run's name (docs/method.md, section 5)."""
    found = {}
    for name in _sections(config):
        for key, field, flag in flagged_keys(_section(config, name), f"{name}."):
            value = getattr(args, key)
            whole = flag.label == "PTRAIN" and value == field.default
            if flag.label and value is not None and not whole:
                found[flag.label] = value
    changes = [(label, found.pop(label)) for label in _LABELS if label in found]
    changes += found.items()
    kind, ratio = (getattr(args, f"training.{key}", None) for key in ("warmup_type", "warmup_ratio"))
    if kind is not None:
        default = _section(config, "training").model_fields["warmup_ratio"].default
        changes.append(("WP", f"{kind}@{default if ratio is None else ratio}"))
    return changes


def _sections(config: type[Config]) -> list[str]:
    fields = config.model_fields.items()
    return [name for name, field in fields if section_of(field) and name not in _OF_OTHER_SCRIPTS]


def _section(config: type[Config], name: str) -> type[Section]:
    section = section_of(config.model_fields[name])
    assert section is not None, name
    return section
