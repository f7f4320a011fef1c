"""Compare systems on the same questions: metrics with 95 % intervals, and paired tests against the first one.

python -m companions.lamp.compare_predictions --golds_json dev_outputs.json --task_name LaMP_3 \
    --preds_json bm25.json contriever.json ropg.json
"""

from pathlib import Path

from companions.lamp.evaluation import add_fidelity_flag, write_metrics
from companions.lamp.tasks import task_of
from utils.config.flags import Parser, natural, positive
from utils.errors import printable, run_main


def parser() -> Parser:
    """The flags."""
    flags = Parser(description="Compare the predictions of several systems.")
    flags.add_argument("--golds_json", type=Path, required=True, metavar="FILE", help="the right outputs")
    flags.add_argument(
        "--preds_json",
        type=Path,
        required=True,
        nargs="+",
        metavar="FILE",
        help="the predictions of each system",
    )
    flags.add_argument("--task_name", required=True, help="LaMP_1 to LaMP_7")
    flags.add_argument("--output_file", type=Path, metavar="FILE", help="the rows as JSON, besides the table")
    flags.add_argument("--resamples", type=positive, default=1000, help="of the intervals (default 1000)")
    flags.add_argument("--seed", type=natural, default=0, help="of the intervals (default 0)")
    add_fidelity_flag(flags)
    return flags


def main() -> None:
    """Parse and compare."""
    args = parser().parse_args()
    from companions.lamp.comparison import compare_systems, table

    released = args.fidelity == "released_code"
    rows = compare_systems(
        task_of(args.task_name), args.golds_json, args.preds_json, released, args.resamples, args.seed
    )
    if args.output_file is not None:
        write_metrics(args.output_file, rows)
    print(printable(table(rows)))


if __name__ == "__main__":
    run_main(main)
