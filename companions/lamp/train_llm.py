"""Train an LM on a task of LaMP, with the items that retrieval has found in its prompts.

python -m companions.lamp.train_llm --train_data merged.json --validation_data merged.json --model_name MODEL \
    --task LaMP-3 --output_dir FOLDER --use_profile --is_ranked --num_retrieved 4
"""

from typing import TYPE_CHECKING

from utils.console import quiet_libraries
from utils.errors import run_main

if TYPE_CHECKING:
    from utils.config.flags import Parser

DESCRIPTION = "Train an LM on a task of LaMP."


def parser() -> "Parser":
    """The flags."""
    from companions.lamp.lm.arguments import answering_parser
    from companions.lamp.lm.settings import TrainConfig

    return answering_parser(TrainConfig, DESCRIPTION, engine_runs=True)


def main() -> None:
    """Parse and train."""
    quiet_libraries()
    # what is wrong with flags or configuration is told before torch is imported, which takes seconds
    from companions.lamp.lm.arguments import read_arguments
    from companions.lamp.lm.settings import TrainConfig

    args, config = read_arguments(TrainConfig, DESCRIPTION, engine_runs=True)
    from companions.lamp.lm.task import train_lm
    from utils.liveness import distributed_context

    with distributed_context(args.local_rank) as distributed:
        train_lm(config, distributed, args.name, args.deepspeed_config, args.resume)


if __name__ == "__main__":
    run_main(main)
