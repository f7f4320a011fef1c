"""Chat: `python interactive_test.py --model_path=RUN`, or the same under the `deepspeed` launcher."""

from models.decoding.arguments import chat_flags, chat_parser
from utils.console import quiet_libraries
from utils.errors import run_main


def main() -> None:
    """Parse and talk."""
    args = chat_parser().parse_args()
    quiet_libraries()
    from models.decoding.chat import chat_with_run
    from utils.liveness import distributed_context

    with distributed_context(args.local_rank) as distributed:
        chat_with_run(
            args.model_path,
            distributed,
            args.persona,
            args.valid_path,
            args.seed,
            args.assignments,
            chat_flags(args),
        )


if __name__ == "__main__":
    run_main(main)
