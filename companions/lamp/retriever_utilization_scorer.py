"""Score a retriever by the LM's output for every question with the items that it has found.

python -m companions.lamp.retriever_utilization_scorer --data_addr merged.json --model_name MODEL --task LaMP-3 \
    --output_dir FOLDER --use_profile --is_ranked --num_retrieved 4
"""

from typing import TYPE_CHECKING

from utils.console import quiet_libraries
from utils.errors import run_main

if TYPE_CHECKING:
    from utils.config.flags import Parser

DESCRIPTION = "Score a retriever by the LM's output for every question with the items that it has found."


def parser() -> "Parser":
    """The flags."""
    from companions.lamp.lm.arguments import answering_parser
    from companions.lamp.lm.settings import RetrieverFeedbackConfig

    return answering_parser(RetrieverFeedbackConfig, DESCRIPTION)


def main() -> None:
    """Parse and collect."""
    quiet_libraries()
    # what is wrong with flags or configuration is told before torch is imported, which takes seconds
    from companions.lamp.lm.arguments import read_arguments
    from companions.lamp.lm.settings import RetrieverFeedbackConfig

    args, config = read_arguments(RetrieverFeedbackConfig, DESCRIPTION)
    from companions.lamp.feedback import collect_retriever_feedback
    from utils.liveness import distributed_context

    with distributed_context(args.local_rank) as distributed:
        collect_retriever_feedback(config, args.output_dir, distributed)


if __name__ == "__main__":
    run_main(main)
