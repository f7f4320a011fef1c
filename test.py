"""Decode: `python test.py --model_path=RUN`, or the same under the `deepspeed` launcher."""

from models.decoding.arguments import decode_parser, decoding_flags
from utils.console import quiet_libraries
from utils.errors import run_main
from utils.runs import find_runs


def main() -> None:
    """Parse and decode."""
    args = decode_parser().parse_args()
    quiet_libraries()
    runs = find_runs(args.model_path, args.path_pattern)
    from models.decoding.decode import DecodeOptions, decode_runs
    from utils.liveness import distributed_context

    options = DecodeOptions(
        batch_size=args.batch_size,
        valid_path=args.valid_path,
        skip_exists=args.skip_exists,
        selection_noise=args.selection_noise,
        assignments=tuple(args.assignments),
        flags=decoding_flags(args),
        seed=args.seed,
    )
    with distributed_context(args.local_rank) as distributed:
        decode_runs(runs, distributed, options)


if __name__ == "__main__":
    run_main(main)
