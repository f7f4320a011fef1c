"""The command lines of test.py, of the chat and of the scoring."""

import argparse
from typing import Any

from models.decoding.settings import SEED, ChatSettings, DecodingSettings
from utils.config.flags import (
    Parser,
    add_engine_flags,
    add_section_flags,
    boolean,
    finite,
    given_flags,
    natural,
    positive,
)
from utils.config.schema import nested


def decode_parser() -> Parser:
    """Flags of test.py (docs/method.md, section 6)."""
    parser = Parser("Decode the validation examples of one run or of several.")
    parser.add_argument(
        "--model_path", required=True, metavar="RUN", help="a run folder, or a parent of several"
    )
    parser.add_argument("--path_pattern", default="*", help="which sub-folders of a parent are decoded")
    parser.add_argument(
        "--batch_size",
        type=_batch_size,
        default="auto",
        help="examples per batch; auto: by free memory in float32, and 16 where replies may depend on it",
    )
    parser.add_argument("--valid_path", metavar="FILE", help="dialogues to decode instead of the run's own")
    parser.add_argument(
        "--skip_exists", type=boolean, default=True, metavar="yes|no", help="keep results that are there"
    )
    parser.add_argument(
        "--selection_noise", type=finite, default=0.0, help="noise on the scores before the choice"
    )
    parser.add_argument(
        "--seed", type=natural, default=SEED, help="of what is drawn: tokens, prompts, noise on the scores"
    )
    add_section_flags(parser, DecodingSettings, "decoding.")
    add_engine_flags(parser)
    return parser


def _batch_size(text: str) -> int | None:
    return None if text == "auto" else positive(text)


def chat_parser() -> Parser:
    """Flags of interactive_test.py."""
    parser = Parser("Talk to a trained run.")
    parser.add_argument("--model_path", required=True, metavar="RUN", help="a run folder")
    parser.add_argument("--persona", metavar="TEXT|FILE", help="'line; line' or a file with one line each")
    parser.add_argument("--valid_path", metavar="FILE", help="dialogues that a persona is drawn from")
    parser.add_argument(
        "--seed", type=natural, help="makes the drawn persona, and what is sampled, repeatable"
    )
    parser.add_argument("--batch_size", type=positive, default=1, help="accepted for the release's command")
    add_section_flags(parser, ChatSettings, "chat.")
    add_engine_flags(parser)
    return parser


def evaluate_parser() -> Parser:
    """Flags of evaluate_runs_results.py."""
    parser = Parser("Score decoded runs and report them together.")
    parser.add_argument(
        "--main_path",
        default="public_ckpt",
        metavar="FOLDER",
        help="folder of run folders, or one run folder",
    )
    parser.add_argument("--metrics", type=_names, help="comma-separated names; all if left out")
    parser.add_argument(
        "--bertscore_model",
        help="name in the local Hugging Face cache, or a folder; microsoft/deberta-xlarge-mnli if left out",
    )
    return parser


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def decoding_flags(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that test.py's flags give, as sections of the configuration."""
    return nested(given_flags(args, DecodingSettings, "decoding."))


def chat_flags(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that the chat's flags give, as sections of the configuration."""
    return nested(given_flags(args, ChatSettings, "chat."))
