"""Score decoded runs and report them together: results.txt and results.csv in --main_path.

python evaluate_runs_results.py --main_path public_ckpt --metrics f1,bleu,dist_2
"""

import argparse

from models.decoding.evaluate import evaluate_runs
from utils.errors import run_main


def main() -> None:
    """Parse the command line and evaluate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--main_path", default="public_ckpt", help="folder of run folders, or one run folder")
    parser.add_argument("--metrics", type=_names, help="comma-separated names; default: all")
    parser.add_argument("--bertscore_model", help="name in the local Hugging Face cache, or a folder")
    args = parser.parse_args()
    settings = {"bertscore_model": args.bertscore_model} if args.bertscore_model else {}
    evaluate_runs(args.main_path, args.metrics, settings)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


if __name__ == "__main__":
    run_main(main)
