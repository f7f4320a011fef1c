"""Started as two ranks by tests/models/test_shared_encodings.py: both open the same encoded file.

The argument is a folder with `job.json`: the sections of a configuration, and which rank fails, or -1.
Each rank writes `RANK.json`: how often it encoded, and the batches that it was given.
"""

import json
import sys
from pathlib import Path

from dataset import encoded_cache
from models.configuration import build_config
from models.dialogue_task import dialogue_task
from utils.console import quiet_libraries
from utils.errors import UserError, run_main
from utils.liveness import distributed_context


def main() -> None:
    """Prepare a training task, and note what came of it."""
    quiet_libraries()
    folder = Path(sys.argv[-1])  # in front is --local_rank
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    encoded_cache.SMALL = 0
    with distributed_context() as distributed:
        made, make = [], encoded_cache.encoded_chunks

        def counting(work):
            made.append(work)
            if distributed.rank == job["failing"]:
                raise UserError("no luck in encoding")
            return make(work)

        encoded_cache.encoded_chunks = counting
        prepared = dialogue_task(build_config([("two ranks", job["sections"])])).prepare(distributed)
        batches = [batch.indices.tolist() for batch in prepared.train]
        answer = {"made": len(made), "batches": batches}
        (folder / f"{distributed.rank}.json").write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    run_main(main)
