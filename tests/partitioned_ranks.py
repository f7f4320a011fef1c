"""Started under a launcher by tests/trainer/test_partitioned.py: the memory of a training at ZeRO stages 3 and 0.

Every rank writes `out/RANK.json`: the peak of its resident memory over what it was before, in MiB, for a training at
each stage, and for loading alone at stage 3.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.configuration import build_config
from models.lm.language_model import load_language_model
from models.settings import Config
from tests.helpers import train
from trainer.engine import free_memory
from utils.distributed import end_distributed, start_distributed
from utils.partitioning import partition_on_loading

# what stage 3 gathers ahead of its use, and keeps for a second use, in parameters: by default whole small LMs
FETCHED = {
    "stage3_max_live_parameters": 1_000_000,
    "stage3_max_reuse_distance": 1_000_000,
    "stage3_prefetch_bucket_size": 100_000,
}


def main(job_path: str) -> None:
    """Run a job: `small`, the sections of a configuration that is trained first, `large`, and the folder `out`."""
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    small, large = (build_config([("job", job[size])]) for size in ("small", "large"))
    distributed, out = start_distributed(), Path(job["out"])
    ds_configs = {
        3: {"zero_optimization": {"stage": 3, **FETCHED}},
        0: {"zero_optimization": {"stage": 0}},
    }
    peaks, runs = {}, {}

    def run(stage: int, config: Config) -> str:
        return str(train(config, distributed, f"stage{stage}", str(out / f"stage_{stage}.json")))

    for stage, content in ds_configs.items():
        if distributed.is_main:
            (out / f"stage_{stage}.json").write_text(json.dumps(content), encoding="utf-8")
    distributed.barrier()
    run(3, small)  # what is imported on the way is not the LM's
    with _peak(peaks, "load"), partition_on_loading({"train_micro_batch_size_per_gpu": 1, **ds_configs[3]}):
        load_language_model(large.model)
    free_memory()
    for stage in ds_configs:
        with _peak(peaks, str(stage)):
            runs[stage] = run(stage, large)
    answer = {"peaks": peaks, "runs": runs}
    (out / f"{distributed.rank}.json").write_text(json.dumps(answer), encoding="utf-8")
    end_distributed()


@contextmanager
def _peak(peaks: dict[str, float], name: str) -> Iterator[None]:
    """Note the peak of the body, over what there is before it."""
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    yield
    peaks[name] = (_resident("VmHWM") - before) / 1024


def _resident(key: str) -> int:
    """A figure of this process's memory, in KiB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    main(sys.argv[-1])  # the launcher puts --local_rank in front
