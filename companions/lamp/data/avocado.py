"""Build LaMP-6 from the Avocado collection (LDC2015T03, which the LDC licenses) and the benchmark's question files.

python -m companions.lamp.data.avocado --avocado_files_dir avocado/data/text --extract_addr unused \
    --output_dir LaMP_6 --input_question_file_train train_questions.json \
    --input_question_file_dev dev_questions.json --input_question_file_test test_questions.json
"""

from pathlib import Path

from companions.lamp.data.building import build
from utils.config.flags import Parser
from utils.errors import run_main

_SPLITS = ("train", "dev", "test")


def parser() -> Parser:
    """The flags, by the names of the benchmark's own command."""
    flags = Parser(description="Build LaMP-6 from the Avocado collection.")
    flags.add_argument(
        "--avocado_files_dir",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="Avocado's zip archives: data/text",
    )
    flags.add_argument("--extract_addr", help="not used: the archives are read in place, nothing is unpacked")
    flags.add_argument("--output_dir", type=Path, required=True, metavar="FOLDER", help="what is written")
    for split in _SPLITS:
        flags.add_argument(
            f"--input_question_file_{split}",
            type=Path,
            required=True,
            metavar="FILE",
            help=f"the benchmark's {split} questions, which name messages",
        )
    flags.add_argument(
        "--time_based_separation", action="store_true", help="the questions are time-based: keep user_id"
    )
    return flags


def main() -> None:
    """Parse and build."""
    args = parser().parse_args()
    if args.extract_addr:
        print(f"--extract_addr {args.extract_addr} is not used: the archives are read in place")
    files = {split: getattr(args, f"input_question_file_{split}") for split in _SPLITS}
    counts = build(args.avocado_files_dir, files, args.output_dir, args.time_based_separation)
    print(
        f"{args.output_dir}: "
        + ", ".join(f"{count} {split}" for split, count in counts.items())
        + " questions"
    )


if __name__ == "__main__":
    run_main(main)
