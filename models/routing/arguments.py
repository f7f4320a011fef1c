"""The command line of trainer/fit_router.py."""

from utils.config.flags import Parser, positive

FIT_EXAMPLES = 4000
SAVED = ("auto", "linear", "turn", "fixed")


def router_parser() -> Parser:
    """Flags of `python -m trainer.fit_router`."""
    parser = Parser("Fit routers after a training, and say whether choosing a prompt can help on this run.")
    parser.add_argument("run", metavar="RUN", help="a run folder with several soft prompts")
    parser.add_argument(
        "--fit_on",
        metavar="FILE",
        help="dialogues that the run was not trained on; else what training_ratio left of its training file, "
        "else parts of the validation file",
    )
    parser.add_argument(
        "--valid_path", metavar="FILE", help="dialogues to measure on instead of the run's own"
    )
    parser.add_argument(
        "--fit_examples", type=positive, default=FIT_EXAMPLES, help="examples to fit on, at most"
    )
    parser.add_argument(
        "--save",
        nargs="?",
        const="auto",
        choices=SAVED,
        help="put a router into the run folder, for --router=fitted of test.py and the chat; bare: the one that does "
        "best on dialogues of the fit part that it was not fitted on",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        dest="assignments",
        help="override any key of the configuration; may be given several times",
    )
    return parser
