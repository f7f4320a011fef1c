"""Started as two ranks by tests/models/decoding/test_decode_ranks.py: some runs fail on one rank only.

The argument is the folder of the runs; each run's name says which rank fails where: `generating-1` on rank 1
after half of its share, `loading-0` on rank 0 before it starts, `fine-1` nowhere.
"""

import sys
from pathlib import Path

from models.decoding import decode
from utils.console import quiet_libraries
from utils.errors import UserError
from utils.liveness import distributed_context


def main(folder: str) -> None:
    """Decode all runs of the folder, in the order of their names."""
    quiet_libraries()
    with distributed_context() as distributed:
        here = {}

        def failing(function, stage):
            def call(*arguments):
                here["calls"] = here.get("calls", 0) + 1
                if here["run"] == f"{stage}-{distributed.rank}" and (stage == "loading" or here["calls"] > 1):
                    raise UserError(f"no luck in {stage}") if stage == "loading" else KeyError("lost")
                return function(*arguments)

            return call

        read_run_config = decode.read_run_config

        def read(run, *arguments):
            here.update(run=run.name.split("_")[1], calls=0)
            return read_run_config(run, *arguments)

        decode.read_run_config = read
        decode.load_run = failing(decode.load_run, "loading")
        decode.generate_replies = failing(decode.generate_replies, "generating")
        runs = sorted(Path(folder).iterdir())
        if distributed.rank == 1:
            runs = runs[:1]  # a file system that has not heard of the others yet
        decode.decode_runs(runs, distributed, decode.DecodeOptions(batch_size=4))


if __name__ == "__main__":
    try:
        main(sys.argv[-1])  # in front is --local_rank
    except UserError as error:
        print(f"at the end: {error}", flush=True)
