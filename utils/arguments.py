"""Command-line flags of the scripts: shared kinds of values, and flags turned into configuration keys."""

import argparse
import math
from collections.abc import Sequence
from typing import Any

from utils.errors import UserError, nearest

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

    def __init__(self, description: str) -> None:
        super().__init__(description=description, allow_abbrev=False)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> argparse.Namespace:  # noqa: D102
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            raise UserError(f"unknown argument {unknown[0]}{nearest(unknown[0].split('=')[0], flags)}")
        return parsed

    def error(self, message: str) -> None:  # noqa: D102 (argparse's own)
        raise UserError(f"{message}; see --help")


def add_engine_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that the `deepspeed` launcher and its users pass to every script."""
    parser.add_argument("--deepspeed", action="store_true", help="accepted for the release's commands")
    parser.add_argument(
        "--deepspeed_config", metavar="FILE", help="DeepSpeed configuration (default ds_config.json)"
    )
    parser.add_argument("--local_rank", type=int, default=-1, help="set by the launcher")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        dest="assignments",
        help="override any key of the configuration; may be given several times",
    )


def train_parser() -> Parser:
    """Flags of train.py (spec, section 5). A flag that is left out leaves the configuration's value."""
    parser = Parser("Train a model on dialogues.")
    parser.add_argument("--config", required=True, metavar="FILE", help="YAML configuration")
    for flag, kind, text in [
        ("batch", int, "examples per step and rank"),
        ("lr", float, "learning rate"),
        ("epoch", int, "passes over the training data"),
        ("seed", int, "seed"),
        ("num_workers", int, "processes that prepare batches"),
        ("grad_clip", float, "largest gradient norm, 0 for none"),
        ("training_ratio", float, "share of the training dialogues"),
        ("adding_noise", float, "noise on the LM's preference"),
        ("selective_loss_weight", float, "weight of L_selection"),
        ("contrastive_weight", float, "weight of L_contrastive"),
        ("warmup_type", str, "DeepSpeed scheduler"),
        ("warmup_min", float, "learning rate at the start of the warm-up"),
        ("warmup_ratio", float, "share of the steps that is warm-up"),
        ("log_dir", str, "folder of the run folders"),
        ("mode", str, "only 'causal'"),
        ("bf16", boolean, "yes: model.load_bit becomes bf16"),
        ("save_model", boolean, "keep checkpoints"),
        ("shuffle_train", boolean, "new order in every epoch"),
    ]:
        parser.add_argument(f"--{flag}", type=kind, help=text, metavar="yes|no" if kind is boolean else None)
    parser.add_argument("--tokenizer_parallel", type=boolean, default=True, metavar="yes|no", help="threads")
    parser.add_argument(
        "--do_test", type=boolean, default=False, metavar="yes|no", help="decode when trained"
    )
    parser.add_argument("--exp_name", help="run name instead of the configuration's file stem")
    parser.add_argument("--ckpt_path", metavar="RUN", help="start from the trained part of this run folder")
    add_engine_flags(parser)
    return parser


_KEYS = {"batch": "batch_size", "lr": "learning_rate", "epoch": "num_epochs"}
_TRAINING = (
    "batch lr epoch seed num_workers grad_clip training_ratio adding_noise selective_loss_weight "
    "contrastive_weight warmup_type warmup_min warmup_ratio log_dir mode save_model shuffle_train"
).split()


def flags_as_sections(args: argparse.Namespace) -> dict[str, Any]:
    """The flags that were given, as configuration sections."""
    given = {flag: getattr(args, flag) for flag in _TRAINING if getattr(args, flag) is not None}
    sections: dict[str, Any] = {"training": {_KEYS.get(flag, flag): value for flag, value in given.items()}}
    if args.bf16:
        sections["model"] = {"load_bit": "bf16"}
    return sections


def changes_in_name(args: argparse.Namespace) -> list[tuple[str, Any]]:
    """What the command line changed, as it stands in the run's name (spec, section 5)."""
    warmup_ratio = 0.05 if args.warmup_ratio is None else args.warmup_ratio
    warmup = f"{args.warmup_type}@{warmup_ratio}" if args.warmup_type else None
    ratio = args.training_ratio if args.training_ratio not in (None, 1.0) else None
    return [
        ("LR", args.lr),
        ("SLW", args.selective_loss_weight),
        ("CTRW", args.contrastive_weight),
        ("NOISE", args.adding_noise),
        ("PTRAIN", ratio),
        ("WP", warmup),
    ]


def decode_parser() -> Parser:
    """Flags of test.py (spec, section 6)."""
    parser = Parser("Decode the validation examples of one run or of several.")
    parser.add_argument(
        "--model_path", required=True, metavar="RUN", help="a run folder, or a parent of several"
    )
    parser.add_argument("--path_pattern", default="*", help="which sub-folders of a parent are decoded")
    parser.add_argument("--batch_size", type=positive, default=16, help="examples per batch")
    parser.add_argument("--valid_path", metavar="FILE", help="dialogues to decode instead of the run's own")
    parser.add_argument(
        "--skip_exists", type=boolean, default=True, metavar="yes|no", help="leave finished runs"
    )
    parser.add_argument(
        "--selection_noise", type=finite, default=0.0, help="noise on the scores before the choice"
    )
    add_engine_flags(parser)
    return parser


def chat_parser() -> Parser:
    """Flags of interactive_test.py."""
    parser = Parser("Talk to a trained run.")
    parser.add_argument("--model_path", required=True, metavar="RUN", help="a run folder")
    parser.add_argument("--persona", metavar="TEXT|FILE", help="'line; line' or a file with one line each")
    parser.add_argument("--valid_path", metavar="FILE", help="dialogues that a persona is drawn from")
    parser.add_argument("--seed", type=int, help="makes the drawn persona repeatable")
    parser.add_argument("--batch_size", type=positive, default=1, help="accepted for the release's command")
    add_engine_flags(parser)
    return parser
