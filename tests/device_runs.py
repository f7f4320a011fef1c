"""Started by tests/test_gpu.py on one device: train in each precision and at each ZeRO stage, then decode.

A process of its own, as DeepSpeed settles on a device when it is imported, and one for all runs, as the imports take
longer than a training.
"""

import json
import sys
from pathlib import Path

from models.configuration import build_config
from models.decoding.decode import DecodeOptions, decode_runs
from tests.helpers import train
from utils.distributed import end_distributed, start_distributed


def main(job_path: str) -> None:
    """Run a job: `sections` of the configuration, `cases` of (precision, stage), and the folder `out`.

    `out/answer.json` gets the device, and of each case `{precision} {stage}` its run folder. One more run, `again`,
    starts from the trained part of the first case's.
    """
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    distributed = start_distributed()
    runs: dict[str, Path] = {}
    for precision, stage in job["cases"]:
        ds_config = Path(job["out"]) / f"stage_{stage}.json"
        ds_config.write_text(json.dumps({"zero_optimization": {"stage": stage}}), encoding="utf-8")
        config = build_config(
            [("device", job["sections"]), ("precision", {"model": {"load_bit": precision}})]
        )
        name = f"{precision} {stage}"
        runs[name] = train(config, distributed, name.replace(" ", "_"), str(ds_config))
    decode_runs(list(runs.values()), distributed, DecodeOptions(batch_size=4))
    first = next(iter(runs.values()))
    runs["again"] = train(build_config([("device", job["sections"])]), distributed, "again", None, str(first))
    answer = {"device": str(distributed.device), "runs": {name: str(run) for name, run in runs.items()}}
    (Path(job["out"]) / "answer.json").write_text(json.dumps(answer), encoding="utf-8")
    end_distributed()


if __name__ == "__main__":
    main(sys.argv[1])
