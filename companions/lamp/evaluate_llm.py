"""Ask an LM about a file of questions: predictions and metrics.

python -m companions.lamp.evaluate_llm --validation_data merged.json --model_addr MODEL --task LaMP-3 \
    --output_dir FOLDER --use_profile --is_ranked --num_retrieved 4
"""

from typing import TYPE_CHECKING

from utils.console import quiet_libraries
from utils.errors import run_main

if TYPE_CHECKING:
    from utils.config.flags import Parser

DESCRIPTION = "Ask an LM about a file of questions."


def parser() -> "Parser":
    """The flags."""
    from companions.lamp.lm.arguments import answering_parser
    from companions.lamp.lm.settings import EvaluationConfig

    return answering_parser(EvaluationConfig, DESCRIPTION)


def main() -> None:
    """Parse and evaluate."""
    quiet_libraries()
    # what is wrong with flags or configuration is told before torch is imported, which takes seconds
    from companions.lamp.lm.arguments import read_arguments
    from companions.lamp.lm.settings import EvaluationConfig

    args, config = read_arguments(EvaluationConfig, DESCRIPTION)
    from companions.lamp.lm.evaluate import evaluate
    from utils.liveness import distributed_context

    with distributed_context(args.local_rank) as distributed:
        evaluate(config, args.output_dir, distributed)


if __name__ == "__main__":
    run_main(main)
