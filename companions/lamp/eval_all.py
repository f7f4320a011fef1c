"""Score predictions of all seven tasks as the benchmark does, from two zip files.

python -m companions.lamp.eval_all --golds_zip golds.zip --preds_zip predictions.zip --output_file metrics.json
"""

from pathlib import Path

from companions.lamp.evaluation import add_fidelity_flag, evaluate_all, write_metrics
from utils.config.flags import Parser
from utils.errors import run_main


def parser() -> Parser:
    """The flags, by the names of the benchmark's own command."""
    flags = Parser(description="Score the predictions of all seven tasks.")
    flags.add_argument("--golds_zip", type=Path, required=True, metavar="ZIP", help="the right outputs")
    flags.add_argument("--preds_zip", type=Path, required=True, metavar="ZIP", help="the predictions")
    flags.add_argument("--temp_dir", type=Path, default=Path("./tmp"), help="not used: nothing is unpacked")
    flags.add_argument("--output_file", type=Path, required=True, metavar="FILE", help="what to write")
    add_fidelity_flag(flags)
    return flags


def main() -> None:
    """Parse and score."""
    args = parser().parse_args()
    metrics = evaluate_all(args.golds_zip, args.preds_zip, args.fidelity == "released_code")
    write_metrics(args.output_file, metrics)


if __name__ == "__main__":
    run_main(main)
