"""Ask the LM each user's questions with the user's own adapter: predictions and metrics.

python -m companions.lamp.peft.evaluate_llm --test_data dev_questions.json --golds_addr dev_outputs.json \
    --task LaMP-3 --user_checkpoints FOLDER/adaptors --output_dir FOLDER --model_name google/flan-t5-base
"""

from companions.lamp.lm.arguments import answering_parser, read_arguments
from companions.lamp.peft.settings import UserEvaluationConfig
from utils.config.flags import Parser
from utils.console import quiet_libraries
from utils.errors import run_main

_DOES = "Ask the LM each user's questions with the user's own adapter."


def parser() -> Parser:
    """The flags, by the names of the original."""
    return answering_parser(UserEvaluationConfig, _DOES)


def main() -> None:
    """Parse and ask."""
    quiet_libraries()
    # what is wrong with flags or configuration is told before torch is imported, which takes seconds
    args, config = read_arguments(UserEvaluationConfig, _DOES)
    from companions.lamp.peft.evaluation import evaluate_users
    from utils.liveness import distributed_context

    with distributed_context(args.local_rank) as distributed:
        evaluate_users(config, args.output_dir, distributed)


if __name__ == "__main__":
    run_main(main)
