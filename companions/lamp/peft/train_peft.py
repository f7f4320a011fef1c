"""Train a LoRA adapter for each user of a file, on the items of the user's profile.

python -m companions.lamp.peft.train_peft --train_data train_questions.json --task LaMP-3 --output_dir FOLDER \
    --model_name google/flan-t5-base
"""

from companions.lamp.peft.arguments import read_training_arguments, training_parser
from utils.console import quiet_libraries
from utils.errors import run_main

parser = training_parser


def main() -> None:
    """Parse and train."""
    quiet_libraries()
    # what is wrong with flags or configuration is told before torch is imported, which takes seconds
    args, config = read_training_arguments()
    from companions.lamp.peft.training import train_users
    from utils.liveness import distributed_context

    with distributed_context(args.local_rank) as distributed:
        train_users(config, args.output_dir, distributed)


if __name__ == "__main__":
    run_main(main)
