"""`python -m trainer.fit_router RUN`: what choosing can gain on a trained run, and a router that is fitted on it."""

from models.routing.arguments import router_parser
from utils.console import quiet_libraries
from utils.errors import run_main
from utils.runs import find_runs


def main() -> None:
    """Parse, fit and report."""
    args = router_parser().parse_args()
    quiet_libraries()
    (run,) = find_runs(args.run)
    from models.routing.evaluation import RouterOptions, route

    route(run, RouterOptions(args.fit_on, args.valid_path, args.fit_examples, tuple(args.assignments)))


if __name__ == "__main__":
    run_main(main)
