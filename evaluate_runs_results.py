"""Score decoded runs and report them together: results.txt and results.csv in --main_path.

python evaluate_runs_results.py --main_path public_ckpt --metrics f1,bleu,dist_2
"""

from models.decoding.arguments import evaluate_parser
from models.decoding.evaluate import evaluate_runs
from utils.errors import run_main


def main() -> None:
    """Parse and evaluate."""
    args = evaluate_parser().parse_args()
    settings = {"bertscore_model": args.bertscore_model} if args.bertscore_model else {}
    evaluate_runs(args.main_path, args.metrics, settings)


if __name__ == "__main__":
    run_main(main)
