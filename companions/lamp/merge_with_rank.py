"""Merge questions, golds and a ranking into the file that the LM's commands read.

python -m companions.lamp.merge_with_rank --lamp_questions_addr questions.json --lamp_output_addr outputs.json \
    --profile_ranking_addr ranking.json --merged_output_addr merged.json
"""

import argparse
from pathlib import Path

from utils.config.flags import Parser
from utils.errors import run_main


def _optional(text: str) -> Path | None:
    return Path(text) if text else None


def parser() -> Parser:
    """The flags, by the names of the benchmark's own command."""
    flags = Parser(
        description="Questions with their outputs, and with their profiles as a ranking orders them."
    )
    flags.add_argument("--lamp_questions_addr", type=Path, required=True, metavar="FILE", help="questions")
    flags.add_argument(
        "--lamp_output_addr", type=_optional, required=True, metavar="FILE", help='golds, or "" for none'
    )
    flags.add_argument("--merged_output_addr", type=Path, required=True, metavar="FILE", help="what to write")
    flags.add_argument(
        "--profile_ranking_addr",
        type=_optional,
        metavar="FILE",
        help="a ranking of rank_profiles (default: the order of the questions file)",
    )
    return flags


def merge_files(args: argparse.Namespace) -> None:
    """What the flags ask for."""
    from companions.lamp.merge import merge

    counts = merge(
        args.lamp_questions_addr, args.lamp_output_addr, args.profile_ranking_addr, args.merged_output_addr
    )
    print(
        f"{args.merged_output_addr}: {counts['questions']} questions; {counts['items']} items that the ranking does "
        f"not name were left out, {counts['ids']} ranked ids are of no item"
    )


def main() -> None:
    """Parse and merge."""
    merge_files(parser().parse_args())


if __name__ == "__main__":
    run_main(main)
