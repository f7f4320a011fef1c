"""Command-line flags: shared kinds of values, a parser that names the nearest flag, and flags made from sections."""

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic.fields import FieldInfo

from utils.config.schema import Flag, Section, flag_of, keys_of, plain_types, words_of
from utils.errors import UserError, existing_file, nearest
from utils.runs import CONFIG

_YES, _NO = {"yes", "true", "1"}, {"no", "false", "0"}


def boolean(text: str) -> bool:
    """yes/no/true/false/1/0, as in the release."""
    if text.lower() in _YES | _NO:
        return text.lower() in _YES
    raise argparse.ArgumentTypeError(f"'{text}': use yes or no")


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"'{text}': a whole number of at least 1 is needed")


def natural(text: str) -> int:
    """A whole number of at least 0."""
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"'{text}': a whole number of at least 0 is needed")


def finite(text: str) -> float:
    """A number that is neither infinite nor NaN."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value):
        return value
    raise argparse.ArgumentTypeError(f"'{text}': a finite number is needed")


class Parser(argparse.ArgumentParser):
    """An argument parser that names the nearest flag when one is misspelt, and never guesses."""

    def __init__(
        self, description: str, add_help: bool = True, hint: Callable[[str], str] = lambda flag: ""
    ) -> None:
        """As argparse's, without abbreviations; `hint` has more words on a flag that is unknown, or none."""
        super().__init__(description=description, allow_abbrev=False, add_help=add_help)
        self.hint = hint

    # argparse's own is annotated once per kind of namespace; nobody gives one here
    def parse_args(  # type: ignore[override]  # noqa: D102
        self, args: Sequence[str] | None = None, namespace: None = None
    ) -> argparse.Namespace:
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            name = unknown[0].split("=")[0]
            raise UserError(f"unknown argument {unknown[0]}{self.hint(name) or nearest(name, flags)}")
        return parsed

    def error(self, message: str) -> Any:  # noqa: D102 (argparse's own)
        raise UserError(f"{message}; see --help")


def add_engine_flags(parser: argparse.ArgumentParser, engine_runs: bool = False) -> None:
    """Flags that the `deepspeed` launcher and its users pass to every script.

    Args:
        parser: gets the flags.
        engine_runs: whether the script starts DeepSpeed's engine, which reads its configuration.
    """
    accepted = "accepted for the release's commands"
    read = "DeepSpeed configuration (default ds_config.json)"
    parser.add_argument("--deepspeed", action="store_true", help=accepted)
    parser.add_argument("--deepspeed_config", metavar="FILE", help=read if engine_runs else accepted)
    parser.add_argument("--local_rank", type=int, default=-1, help="set by the launcher")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        dest="assignments",
        help="override any key of the configuration; may be given several times",
    )


def add_resume_flag(parser: argparse.ArgumentParser) -> None:
    """`--resume RUN`; see `with_config_of_run`."""
    parser.add_argument(
        "--resume", metavar="RUN", help="go on with this run folder's training, with its own configuration"
    )


def with_config_of_run(arguments: Sequence[str] | None = None) -> list[str]:
    """A command line in which `--resume RUN` brings `--config RUN/config.yml` along.

    Args:
        arguments: the command line; this process's by default.

    Raises:
        UserError: a configuration is named as well, or the folder has none.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = Parser("", add_help=False)
    parser.add_argument("--resume")
    parser.add_argument("--config")
    known, _ = parser.parse_known_args(given)
    if known.resume is None:
        return given
    if known.config is not None:
        raise UserError("--resume goes on with the configuration of its run; leave --config out")
    path = existing_file(Path(known.resume) / CONFIG, f"--resume {known.resume}: the run's configuration")
    return [f"--config={path}", *given]


class FlaggedKey(NamedTuple):
    """A key of a section that has a flag."""

    key: str
    """as `section.key`"""
    field: FieldInfo
    flag: Flag


def flagged_keys(section: type[Section], prefix: str = "") -> Iterator[FlaggedKey]:
    """The keys of a section that have a flag, in its order."""
    for key, field in keys_of(section, prefix):
        flag = flag_of(field)
        if flag is not None:
            yield FlaggedKey(key, field, flag)


def add_section_flags(parser: argparse.ArgumentParser, section: type[Section], prefix: str = "") -> None:
    """A flag for every key of a section that has one; what is not given is None.

    Args:
        parser: gets the flags.
        section: the section.
        prefix: the key that the section stands under, such as "decoding.".
    """
    for key, field, flag in flagged_keys(section, prefix):
        kind = _kind(field)
        bare: dict[str, Any] = {"nargs": "?", "const": True} if kind is boolean else {}
        parser.add_argument(
            *flag.short,
            f"--{flag.name}",
            dest=key,
            type=kind,
            **bare,
            metavar="yes|no" if kind is boolean else flag.name.upper(),
            help=f"{field.description or ''} ({_shown(field)})".replace("%", "%%"),
        )


def given_flags(args: argparse.Namespace, section: type[Section], prefix: str = "") -> dict[str, Any]:
    """The flags of `add_section_flags` that were given: value by `section.key`."""
    keys = [flagged.key for flagged in flagged_keys(section, prefix)]
    return {key: value for key in keys if (value := getattr(args, key)) is not None}


def shown_default(value: Any) -> str:
    """A value as YAML writes it."""
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


def _kind(field: FieldInfo) -> Any:
    """What reads the text of a flag; whether the value is one of a Literal's is checked with the section."""
    words = {str(word): word for word in words_of(field.annotation)}
    if words:
        return lambda text: words.get(text, text)
    kinds = plain_types(field.annotation)
    return next((read for kind, read in ((bool, boolean), (int, int), (float, float)) if kind in kinds), str)


def _shown(field: FieldInfo) -> str:
    return "needed" if field.is_required() else f"default {shown_default(field.default)}"
