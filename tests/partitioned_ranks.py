"""What tests/two_ranks.py does with an LM that is partitioned on loading: the memory of ZeRO stages 3 and 0.

Every rank writes `out/RANK.json`: the peak of its resident memory over what it was before, in MiB, for a training at
each stage, and for loading alone at stage 3.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.configuration import build_config
from models.lm.language_model import load_language_model
from tests.helpers import train
from trainer.engine import free_memory
from utils.distributed import DistributedContext
from utils.partitioning import partition_on_loading

# what stage 3 gathers ahead of its use, and keeps for a second use, in parameters: by default whole small LMs
FETCHED = {
    "stage3_max_live_parameters": 1_000_000,
    "stage3_max_reuse_distance": 1_000_000,
    "stage3_prefetch_bucket_size": 100_000,
}


def answer(job: dict[str, Any], out: Path, distributed: DistributedContext) -> None:
    """Train `job`, the sections of a configuration, with little files of this job in the folder `out`."""
    config = build_config([("job", job)])
    ds_configs = {
        3: {"zero_optimization": {"stage": 3, **FETCHED}},
        0: {"zero_optimization": {"stage": 0}},
    }
    peaks, runs = {}, {}
    free_memory()
    with _peak(peaks, "load"), partition_on_loading({"train_micro_batch_size_per_gpu": 1, **ds_configs[3]}):
        load_language_model(config.model)
    free_memory()
    for stage, content in ds_configs.items():
        path = out / f"partitioned_{stage}.json"
        if distributed.is_main:
            path.write_text(json.dumps(content), encoding="utf-8")
        distributed.barrier()
        with _peak(peaks, str(stage)):
            runs[stage] = str(train(config, distributed, f"partitioned{stage}", str(path)))
    told = {"peaks": peaks, "runs": runs}
    (out / f"{distributed.rank}.json").write_text(json.dumps(told), encoding="utf-8")


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
