"""Active learning: `python -m companions.personagpt.learn --model_path RUN --out corrections.jsonl`."""

from companions.personagpt.arguments import learn_parser, talk_flags
from utils.console import quiet_libraries
from utils.errors import run_main


def main() -> None:
    """Parse, and judge."""
    args = learn_parser().parse_args()
    quiet_libraries()
    from companions.personagpt.conversations import learn
    from utils.liveness import distributed_context

    with distributed_context(args.local_rank) as distributed:
        learn(args, talk_flags(args), distributed)


if __name__ == "__main__":
    run_main(main)
