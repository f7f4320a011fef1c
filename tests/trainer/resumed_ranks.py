"""Commands on several ranks for tests/trainer/test_resume_ranks.py.

python -m tests.trainer.resumed_ranks rewrite RUN OUT STAGE...   read a checkpoint at each stage, and write it again
python -m tests.trainer.resumed_ranks stop RANK:STEP FLAGS...    train.py, and one rank is asked to end at a step;
                                                                     LOG_DIR-stopped and LOG_DIR-again are copies
"""

import os
import shutil
import sys
from pathlib import Path

import train
from models.decoding.runs import read_run_config
from models.dialogue_task import dialogue_task
from trainer.checkpoints import open_checkpoint, save_checkpoint
from trainer.ds_config import complete_ds_config
from trainer.engine import end_engine, make_engine
from trainer.loop import Trainer
from trainer.moments import updates
from trainer.resume import Resumed, load_values
from utils.distributed import DistributedContext
from utils.errors import Terminated, run_main
from utils.liveness import distributed_context
from utils.partitioning import end_partitioning, partition_on_loading


def rewrite(run: Path, out: Path, stages: list[int], distributed: DistributedContext) -> None:
    """Read a run's checkpoint in an engine of each stage; `out/STAGE` gets what is written from there."""
    task = dialogue_task(read_run_config(run, []))
    training = task.config.training
    for stage in stages:
        ds_config, _ = complete_ds_config(
            {"zero_optimization": {"stage": stage}}, training.batch_size, 0.0, task.precision
        )
        with partition_on_loading(ds_config):
            module = task.prepare(distributed).module
        found = open_checkpoint(run)
        assert found is not None
        resumed = Resumed(*found, seed=0)
        load_values(module, resumed.file)
        steps = resumed.progress.total_steps
        engine = make_engine(module, training, ds_config, steps)
        resumed.restore(engine, steps)
        progress = resumed.progress.replaced({"updates": updates(engine), "ranks": distributed.size})
        folder = out / str(stage)
        if distributed.is_main:
            folder.mkdir(parents=True)
        save_checkpoint(engine, folder, progress, distributed)
        end_engine(engine)
        end_partitioning()


def stop(where: str, flags: list[str]) -> None:
    """train.py; where names the rank and the step at which SIGTERM reaches it, and no other rank."""
    rank, step = map(int, where.split(":"))
    original = Trainer._save_if_due

    def save_if_due(self: Trainer) -> None:
        if (self.distributed.rank, self.steps) == (rank, step):
            self.stop._ask()
        original(self)

    Trainer._save_if_due = save_if_due  # type: ignore[method-assign]
    sys.argv = ["train.py", *flags]
    try:
        train.main()
    except Terminated as ended:
        if os.environ.get("RANK", "0") == "0":
            folder = Path(str(ended).partition("--resume=")[2])
            for use in ("stopped", "again"):  # one to be read, and one to go on
                shutil.copytree(folder, f"{folder.parent}-{use}")
        raise


def main() -> None:
    """One of the two."""
    what, *words = [word for word in sys.argv[1:] if not word.startswith("--local_rank")]
    if what == "stop":
        stop(words[0], words[1:])
        return
    run, out, *stages = words
    with distributed_context() as distributed:
        rewrite(Path(run), Path(out), [int(stage) for stage in stages], distributed)


if __name__ == "__main__":
    run_main(main)
