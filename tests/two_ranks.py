"""Started under a launcher by tests/trainer/test_two_ranks.py: train at every ZeRO stage, then decode over the ranks.

One start serves all stages and precisions, as the imports take longer than the training.
"""

import json
import sys
from pathlib import Path

from models.configuration import build_config
from models.decoding.decode import DecodeOptions, decode_runs
from tests import partitioned_ranks, two_ranks_half
from tests.helpers import train
from utils.distributed import end_distributed, start_distributed


def main(job_path: str) -> None:
    """Run a job: `sections` of a configuration, `stages`, the folder `out`; with `half` and `partitioned`, or without.

    `out/runs.json` holds the run folder of each stage, `out/half.json` what tests/two_ranks_half.py found out,
    and `out/RANK.json` what tests/partitioned_ranks.py did.
    """
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    distributed = start_distributed()
    runs = {}
    for stage in job["stages"]:
        ds_config = Path(job["out"]) / f"stage_{stage}.json"
        if distributed.is_main:
            ds_config.write_text(json.dumps({"zero_optimization": {"stage": stage}}), encoding="utf-8")
        distributed.barrier()
        config = build_config([("two ranks", job["sections"])])
        runs[stage] = train(config, distributed, f"stage{stage}", str(ds_config))
    decode_runs([runs[2]], distributed, DecodeOptions(batch_size=4))
    half = two_ranks_half.answer(job["half"], job["out"], distributed) if "half" in job else None
    if "partitioned" in job:
        partitioned_ranks.answer(job["partitioned"], Path(job["out"]), distributed)
    if distributed.is_main:
        (Path(job["out"]) / "half.json").write_text(json.dumps(half), encoding="utf-8")
        answer = {stage: str(run) for stage, run in runs.items()}
        (Path(job["out"]) / "runs.json").write_text(json.dumps(answer), encoding="utf-8")
    end_distributed()


if __name__ == "__main__":
    main(sys.argv[-1])  # the launcher puts --local_rank in front
