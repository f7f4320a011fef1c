"""Train: `python -m companions.personagpt.train --config=FILE [--config=NEXT]`, or the same under `deepspeed`."""

from companions.personagpt import register_personagpt
from utils.console import quiet_libraries
from utils.errors import run_main


def main() -> None:
    """Parse, train, and decode the last run when asked to."""
    quiet_libraries()
    register_personagpt()
    from companions.personagpt.chain import read_chain, train_chain

    links = read_chain()
    from models.decoding.decode import decode_runs
    from models.dialogue_task import set_tokenizer_threads
    from utils.liveness import distributed_context

    args = links[-1].args
    set_tokenizer_threads(args.tokenizer_parallel)
    with distributed_context(args.local_rank) as distributed:
        runs = train_chain(links, distributed)
        if args.do_test:
            decode_runs(runs[-1:], distributed)


if __name__ == "__main__":
    run_main(main)
