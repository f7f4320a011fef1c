"""Train the retriever by distillation of the LM's preference (ROPG-KD).

`python -m companions.lamp.ropg.train_kd --task LaMP-3 --train_data MERGED --scores_path FEEDBACK --name NAME`
"""

from companions.lamp.ropg.arguments import read_arguments, ropg_parser
from companions.lamp.ropg.settings import KDConfig
from utils.config.flags import Parser
from utils.console import quiet_libraries
from utils.errors import run_main


def parser() -> Parser:
    """The flags, by the names of the original's own command."""
    return ropg_parser(KDConfig, "kd")


def main() -> None:
    """Parse and train."""
    args, config = read_arguments(KDConfig, "kd")
    quiet_libraries()
    # what is wrong with flags or configuration is told before torch is imported, which takes seconds
    from companions.lamp.ropg.task import ropg_task
    from trainer.training import train
    from utils.liveness import distributed_context

    with distributed_context(args.local_rank) as distributed:
        train(ropg_task(config), distributed, args.name, args.deepspeed_config)


if __name__ == "__main__":
    run_main(main)
