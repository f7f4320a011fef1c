"""Rank the profiles of a questions file.

python -m companions.lamp.rank_profiles --input_data_addr questions.json --output_ranking_addr ranking.json \
    --task LaMP-3 --ranker bm25
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from companions.lamp.rankers import CONTRIEVER, RANKERS, RankerOptions
from companions.lamp.tasks import TASKS, task_of
from utils.config.flags import Parser, natural, positive
from utils.console import quiet_libraries
from utils.errors import run_main

if TYPE_CHECKING:
    from utils.distributed import DistributedContext


def parser() -> Parser:
    """The flags, by the names of the benchmark's own command."""
    tasks = ", ".join(task.option for task in TASKS.values())
    flags = Parser(description="Rank the profile of every question, best item first.")
    flags.add_argument("--input_data_addr", type=Path, required=True, metavar="FILE", help="questions")
    flags.add_argument(
        "--output_ranking_addr", type=Path, required=True, metavar="FILE", help="what to write"
    )
    flags.add_argument("--task", type=task_of, required=True, help=tasks)
    flags.add_argument("--ranker", required=True, help=", ".join(RANKERS))
    flags.add_argument(
        "--batch_size", type=positive, default=16, help="documents of full length in a batch (default 16)"
    )
    flags.add_argument("--use_date", action="store_true", help="documents end with their date")
    flags.add_argument(
        "--contriever_checkpoint",
        default=CONTRIEVER,
        metavar="NAME|FOLDER",
        help=f"the encoder, such as one that ROPG trained (default {CONTRIEVER})",
    )
    flags.add_argument("--seed", type=natural, default=0, help="of the ranker random (default 0)")
    flags.add_argument(
        "--fidelity",
        choices=("paper", "released_code"),
        default="paper",
        help="released_code: queries as the release takes them, where titles have quotation marks (default paper)",
    )
    flags.add_argument("--local_rank", type=int, default=-1, help="set by the launcher")
    return flags


def rank(args: argparse.Namespace, distributed: "DistributedContext") -> None:
    """What the flags ask for; all processes call this."""
    from companions.lamp.rankings import rank_file

    options = RankerOptions(
        args.batch_size, args.contriever_checkpoint, device=distributed.device, seed=args.seed
    )
    rank_file(
        args.input_data_addr,
        args.output_ranking_addr,
        args.task,
        args.ranker,
        distributed,
        options,
        args.use_date,
        released=args.fidelity == "released_code",
    )


def main() -> None:
    """Parse and rank."""
    args = parser().parse_args()
    quiet_libraries()
    from utils.liveness import distributed_context

    with distributed_context(args.local_rank) as distributed:
        rank(args, distributed)


if __name__ == "__main__":
    run_main(main)
