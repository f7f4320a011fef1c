"""Train: `python train.py --config=FILE`, or the same under the `deepspeed` launcher."""

from utils.arguments import changes_in_name, flags_as_sections, train_parser
from utils.config import load_config
from utils.console import quiet_libraries
from utils.errors import UserError, run_main
from utils.runs import run_name


def main() -> None:
    """Parse, train, and decode when asked to."""
    args = train_parser().parse_args()
    quiet_libraries()
    config = load_config(args.config, args.assignments, flags_as_sections(args))
    if args.do_test and not config.training.save_model:
        raise UserError(
            "--do_test=yes needs the checkpoint that training.save_model: false (--save_model=no) does not keep"
        )
    # torch and transformers take seconds to import: a mistake in the configuration is told before
    from models.decoding.decode import decode_runs
    from models.dialogue_task import dialogue_task, set_tokenizer_threads
    from trainer.training import train
    from utils.liveness import distributed_context

    set_tokenizer_threads(args.tokenizer_parallel)
    name = run_name(args.config, changes_in_name(args), args.exp_name)
    with distributed_context(args.local_rank) as distributed:
        folder = train(dialogue_task(config), distributed, name, args.deepspeed_config, args.ckpt_path)
        if args.do_test:
            decode_runs([folder], distributed)


if __name__ == "__main__":
    run_main(main)
