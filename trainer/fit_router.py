"""`python -m trainer.fit_router RUN`: what choosing can gain on a trained run, and a router that is fitted on it."""

from models.routing.arguments import router_parser
from utils.console import quiet_libraries
from utils.errors import UserError, run_main
from utils.runs import find_runs


def main() -> None:
    """Parse, fit and report."""
    args = router_parser().parse_args()
    quiet_libraries()
    run, *others = find_runs(args.run, asked="RUN")
    if others:
        raise UserError(f"{args.run} holds {1 + len(others)} runs: give one of them, such as {run}")
    from models.routing.evaluation import RouterOptions, evaluate_routers

    options = RouterOptions(
        fit_on=args.fit_on,
        valid_path=args.valid_path,
        fit_examples=args.fit_examples,
        save=args.save,
        assignments=tuple(args.assignments),
    )
    evaluate_routers(run, options)


if __name__ == "__main__":
    run_main(main)
