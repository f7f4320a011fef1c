"""Prepare data: `python -m companions.personagpt.preprocess_dataset --train FILE --valid FILE --out FOLDER`."""

from pathlib import Path

from companions.personagpt import register_personagpt
from utils.config.flags import Parser
from utils.console import quiet_libraries
from utils.errors import run_main


def preprocess_parser() -> Parser:
    """Flags of preprocess_dataset."""
    parser = Parser("Read PersonaGPT's data once: what is left out is reported, what is left is written.")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="for the prepared files")
    for name, content in (
        ("train", "dialogues with both personas, to train on"),
        ("valid", "the same, to validate on"),
        ("actions", "examples of action codes, .csv or .jsonl"),
    ):
        parser.add_argument(f"--{name}", metavar="FILE", help=f"{content} (dataset.{name})")
    parser.add_argument("--config", metavar="FILE", help="YAML configuration of the training to come")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        dest="assignments",
        help="override any key of the configuration; may be given several times",
    )
    return parser


def main() -> None:
    """Parse, and write the prepared files."""
    args = preprocess_parser().parse_args()
    quiet_libraries()
    register_personagpt()
    from companions.personagpt.preprocessing import preprocess, preprocess_config

    files = {"train": args.train, "valid": args.valid, "actions": args.actions}
    config = preprocess_config(args.config, args.assignments, files)
    print("\n".join(preprocess(config, args.out)))


if __name__ == "__main__":
    run_main(main)
