"""Train, decode and compare the methods of a plan; what is done is not done again.

python -m trainer.results --config=config/results/plan.yml --set data.model_name=FOLDER
"""

import os
from pathlib import Path

from utils.config.flags import Parser, boolean, positive
from utils.errors import run_main


def parser() -> Parser:
    """The flags."""
    flags = Parser(description="Train, decode and compare the methods of a plan.")
    flags.add_argument("--config", default="config/results/plan.yml", metavar="FILE", help="the plan")
    flags.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        dest="assignments",
        help="override a key of the plan; may be given several times",
    )
    flags.add_argument("--methods", metavar="NAMES", help="comma-separated; all of the plan if left out")
    flags.add_argument(
        "--workers", type=positive, default=os.cpu_count() or 1, help="jobs at once, by default one per core"
    )
    flags.add_argument("--page", metavar="FILE", help="a Markdown page whose tables are brought up to date")
    flags.add_argument(
        "--run", type=boolean, default=True, metavar="yes|no", help="no: only show what is done already"
    )
    return flags


def main() -> None:
    """Parse and run."""
    args = parser().parse_args()
    from trainer.results.plan import read_plan

    only = None if args.methods is None else [name.strip() for name in args.methods.split(",")]
    plan = read_plan(args.config, args.assignments, only)
    from trainer.results.results import make_results

    page = None if args.page is None else Path(args.page)
    make_results(plan, args.workers, page, args.run)


if __name__ == "__main__":
    run_main(main)
