"""Evaluate: `python -m companions.personagpt.evaluate --model_path=RUN`, or under the `deepspeed` launcher."""

from companions.personagpt import register_personagpt
from models.decoding.arguments import decoding_flags
from models.decoding.settings import SEED, DecodingSettings
from utils.config.flags import Parser, add_engine_flags, add_section_flags, boolean, natural, positive
from utils.config.schema import merge
from utils.console import quiet_libraries
from utils.errors import run_main


def evaluate_parser() -> Parser:
    """Flags of evaluate."""
    parser = Parser(
        "Evaluate a run of PersonaGPT: true answers, generated replies, following of action codes."
    )
    parser.add_argument(
        "--model_path",
        metavar="RUN|FOLDER",
        help="a run folder, or published weights in the Hugging Face format; or --set model.model_name=FOLDER",
    )
    parser.add_argument(
        "--out", metavar="FOLDER", help="for the results of weights that are no run; it stands as their run"
    )
    parser.add_argument("--valid_path", metavar="FILE", help="dialogues instead of the run's own")
    parser.add_argument(
        "--speakers",
        choices=("self", "both"),
        default="self",
        help="whose replies are generated: the modelled speaker's, as in ConvAI2, or both speakers'",
    )
    parser.add_argument("--goals", metavar="FILE", help="phrases of action codes, one a line; else the 11")
    parser.add_argument(
        "--openings",
        type=natural,
        default=50,
        help="of dialogues, that each action code is tried on; 0 for none",
    )
    parser.add_argument("--batch_size", type=positive, default=16, help="examples per batch")
    parser.add_argument(
        "--skip_exists", type=boolean, default=True, metavar="yes|no", help="keep replies that are there"
    )
    parser.add_argument("--seed", type=natural, default=SEED, help="of what is drawn: openings, tokens")
    add_section_flags(parser, DecodingSettings, "decoding.")
    add_engine_flags(parser)
    return parser


def main() -> None:
    """Parse and evaluate."""
    args = evaluate_parser().parse_args()
    quiet_libraries()
    register_personagpt()
    from companions.personagpt.evaluation import EvaluateOptions, evaluate_run
    from companions.personagpt.weights import folder_to_evaluate
    from utils.liveness import distributed_context

    options = EvaluateOptions(
        batch_size=args.batch_size,
        valid_path=args.valid_path,
        speakers=args.speakers,
        skip_exists=args.skip_exists,
        openings=args.openings,
        assignments=tuple(args.assignments),
        flags=merge(decoding_flags(args), {"dataset": {"goals": args.goals}} if args.goals else {}),
        seed=args.seed,
    )
    with distributed_context(args.local_rank) as distributed:
        run = folder_to_evaluate(args.model_path, args.out, options.assignments, distributed)
        evaluate_run(run, distributed, options)


if __name__ == "__main__":
    run_main(main)
