"""Score predictions of one task as the benchmark does.

python -m companions.lamp.eval_task --golds_json dev_outputs.json --preds_json predictions.json \
    --task_name LaMP_3 --output_file metrics.json
"""

from pathlib import Path

from companions.lamp.evaluation import add_fidelity_flag, evaluate_task, write_metrics
from companions.lamp.tasks import task_of
from utils.config.flags import Parser
from utils.errors import run_main


def parser() -> Parser:
    """The flags, by the names of the benchmark's own command."""
    flags = Parser(description="Score the predictions of one task.")
    flags.add_argument("--golds_json", type=Path, required=True, metavar="FILE", help="the right outputs")
    flags.add_argument("--preds_json", type=Path, required=True, metavar="FILE", help="the predictions")
    flags.add_argument("--task_name", required=True, help="LaMP_1 to LaMP_7")
    flags.add_argument("--output_file", type=Path, required=True, metavar="FILE", help="what to write")
    add_fidelity_flag(flags)
    return flags


def main() -> None:
    """Parse and score."""
    args = parser().parse_args()
    released = args.fidelity == "released_code"
    metrics = evaluate_task(task_of(args.task_name), args.golds_json, args.preds_json, released)
    write_metrics(args.output_file, metrics)


if __name__ == "__main__":
    run_main(main)
