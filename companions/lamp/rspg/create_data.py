"""Make the data of RSPG from the LM's feedback under each retrieval strategy.

python -m companions.lamp.rspg.create_data --retrivers_data_addr feedback/none feedback/recency feedback/bm25 \
    --task_inputs_addr questions.json --task_outputs_addr outputs.json --output_dataset_addr rspg.json --metric mae
"""

import argparse
from pathlib import Path

from utils.config.flags import Parser
from utils.errors import run_main


def parser() -> Parser:
    """The flags, by the names of the original's command."""
    flags = Parser(description="Questions with the LM's prompts, outputs and metrics under each strategy.")
    flags.add_argument(
        "-names-list", "--retrivers_data_addr", "--retrievers_data_addr",
        dest="feedback", type=Path, nargs="+", required=True, metavar="FOLDER",
        help="of each strategy, the folder that retriever_utilization_scorer wrote; in the order of the strategies",
    )  # fmt: skip
    flags.add_argument(
        "--names", nargs="+", default=[], help="of the strategies (default: those of the folders)"
    )
    flags.add_argument("--task_inputs_addr", type=Path, required=True, metavar="FILE", help="questions")
    flags.add_argument("--task_outputs_addr", type=Path, required=True, metavar="FILE", help="golds")
    flags.add_argument(
        "--output_dataset_addr", type=Path, required=True, metavar="FILE", help="what to write"
    )
    flags.add_argument(
        "--metric",
        required=True,
        help="what to learn from: accuracy (LaMP-1, 2), mae (LaMP-3), rouge-1 (the others)",
    )
    return flags


def create(args: argparse.Namespace) -> None:
    """What the flags ask for."""
    from companions.lamp.rspg.building import build_data

    count = build_data(
        args.feedback,
        args.task_inputs_addr,
        args.task_outputs_addr,
        args.metric,
        args.output_dataset_addr,
        args.names,
    )
    print(f"{args.output_dataset_addr}: {count} questions, {len(args.feedback)} strategies")


def main() -> None:
    """Parse and build."""
    create(parser().parse_args())


if __name__ == "__main__":
    run_main(main)
