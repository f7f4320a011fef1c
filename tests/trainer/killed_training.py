"""A training in a process of its own, for tests that kill it."""

import os
import sys

from models.configuration import build_config
from models.dialogue_task import dialogue_task
from trainer.training import train
from utils.errors import run_main
from utils.liveness import distributed_context


def train_run(sections: dict, ds_config: str, resume: str | None) -> None:
    """Train as train.py does, and end with its exit status.

    Args:
        sections: the configuration.
        ds_config: path of the DeepSpeed configuration.
        resume: a run folder to go on with.
    """

    def main() -> None:
        with distributed_context() as distributed:
            train(
                dialogue_task(build_config([("job", sections)])), distributed, "run", ds_config, resume=resume
            )

    sys.argv = ["train.py"]
    # the process group of the tests is another one's
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)
    run_main(main)
