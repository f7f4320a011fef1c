"""Train: `python train.py --config=FILE`, or the same under the `deepspeed` launcher."""

from utils.console import quiet_libraries
from utils.errors import run_main
from utils.runs import run_name


def main() -> None:
    """Parse, train, and decode when asked to."""
    quiet_libraries()
    # a file that is no YAML, or a wrong model type, is told before torch and transformers are imported, which takes
    # seconds; any other mistake in the configuration before deepspeed is
    from models.arguments import changes_in_name, read_train_arguments

    args, config = read_train_arguments()
    from models.decoding.decode import decode_runs
    from models.dialogue_task import dialogue_task, set_tokenizer_threads
    from trainer.training import train
    from utils.liveness import distributed_context

    set_tokenizer_threads(args.tokenizer_parallel)
    name = run_name(args.config, changes_in_name(args, type(config)), args.exp_name)
    with distributed_context(args.local_rank) as distributed:
        task = dialogue_task(config)
        folder = train(task, distributed, name, args.deepspeed_config, args.ckpt_path, args.resume)
        if args.do_test:
            decode_runs([folder], distributed)


if __name__ == "__main__":
    run_main(main)
