"""Train the scorer of retrieval strategies (RSPG), predict with it, or both.

`python -m companions.lamp.rspg.rspg --rspg_type Post --task LaMP-3 --do_train --do_validation --train_data RSPG_TRAIN
--val_data RSPG_DEV --val_lamp_golds DEV_OUTPUTS --name NAME`; a trained one predicts with `--do_validation
--model_path RUN`.
"""

from companions.lamp.rspg.arguments import read_arguments, rspg_parser
from utils.config.flags import Parser
from utils.console import quiet_libraries
from utils.errors import run_main


def parser() -> Parser:
    """The flags, by the names of the original's own command."""
    return rspg_parser()


def main() -> None:
    """Parse, train, predict."""
    args, config = read_arguments()
    quiet_libraries()
    # what is wrong with flags or configuration is told before torch is imported, which takes seconds
    from companions.lamp.rspg.running import run_rspg
    from utils.liveness import distributed_context

    with distributed_context(args.local_rank) as distributed:
        run_rspg(
            config,
            distributed,
            args.name,
            args.do_train,
            args.do_validation,
            args.deepspeed_config,
            args.resume,
        )


if __name__ == "__main__":
    run_main(main)
