"""Score each item of every profile by the LM's output with it alone in the prompt.

python -m companions.lamp.profile_item_utilization_scorer --train_data merged.json --model_name MODEL --task LaMP-3 \
    --output_dir FOLDER --profile_size 16
"""

from typing import TYPE_CHECKING

from utils.console import quiet_libraries
from utils.errors import run_main

if TYPE_CHECKING:
    from utils.config.flags import Parser

DESCRIPTION = "Score each profile item by the LM's output with it alone."


def parser() -> "Parser":
    """The flags."""
    from companions.lamp.lm.arguments import answering_parser
    from companions.lamp.lm.settings import ItemFeedbackConfig

    return answering_parser(ItemFeedbackConfig, DESCRIPTION)


def main() -> None:
    """Parse and collect."""
    quiet_libraries()
    # what is wrong with flags or configuration is told before torch is imported, which takes seconds
    from companions.lamp.lm.arguments import read_arguments
    from companions.lamp.lm.settings import ItemFeedbackConfig

    args, config = read_arguments(ItemFeedbackConfig, DESCRIPTION)
    from companions.lamp.feedback import collect_item_feedback
    from utils.liveness import distributed_context

    with distributed_context(args.local_rank) as distributed:
        collect_item_feedback(config, args.output_dir, distributed)


if __name__ == "__main__":
    run_main(main)
