"""Interaction: `python -m companions.personagpt.interact --model_path RUN --mode 0|1`."""

from companions.personagpt.arguments import interact_parser, talk_flags
from utils.console import quiet_libraries
from utils.errors import run_main


def main() -> None:
    """Parse and talk."""
    args = interact_parser().parse_args()
    quiet_libraries()
    from companions.personagpt.conversations import interact
    from utils.liveness import distributed_context

    with distributed_context(args.local_rank) as distributed:
        interact(args, talk_flags(args), distributed)


if __name__ == "__main__":
    run_main(main)
