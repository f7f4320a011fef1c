"""Started by tests/test_gpu.py on one device: train in each precision and at each ZeRO stage, then decode.

A process of its own, as DeepSpeed settles on a device when it is imported, and one for all runs, as the imports take
longer than a training.
"""

import json
import sys
from pathlib import Path
from unittest.mock import patch

from models.configuration import build_config
from models.decoding.decode import DecodeOptions, decode_runs
from models.dialogue_task import dialogue_task
from models.settings import Config
from tests.helpers import train
from trainer import training
from trainer.loop import Trainer
from utils.distributed import DistributedContext, end_distributed, start_distributed
from utils.errors import Terminated


def main(job_path: str) -> None:
    """Run a job: `sections` of the configuration, `cases` of (precision, stage), and the folder `out`.

    `out/answer.json` gets the device, and of each case `{precision} {stage}` its run folder. One more run, `again`,
    starts from the trained part of the first case's; `resumed {precision} {stage}`, of the first and the last case, was
    stopped after two steps and went on.
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
        if [precision, stage] in (job["cases"][0], job["cases"][-1]):
            runs[f"resumed {name}"] = stop_and_resume(config, distributed, str(ds_config))
    decode_runs(
        [run for name, run in runs.items() if "resumed" not in name], distributed, DecodeOptions(batch_size=4)
    )
    first = next(iter(runs.values()))
    runs["again"] = train(build_config([("device", job["sections"])]), distributed, "again", None, str(first))
    answer = {"device": str(distributed.device), "runs": {name: str(run) for name, run in runs.items()}}
    (Path(job["out"]) / "answer.json").write_text(json.dumps(answer), encoding="utf-8")
    end_distributed()


def stop_and_resume(config: Config, distributed: DistributedContext, ds_config: str) -> Path:
    """A run that is asked to end after two steps, and goes on in a new engine."""
    save_if_due = Trainer._save_if_due

    def ask(self: Trainer) -> None:
        self.stop.is_asked = self.steps == 2
        save_if_due(self)

    with patch.object(Trainer, "_save_if_due", ask):
        try:
            train(config, distributed, "stopped", ds_config)
        except Terminated as stop:
            folder = str(stop).partition("--resume=")[2]
    return training.train(dialogue_task(config), distributed, "", ds_config, resume=folder)


if __name__ == "__main__":
    main(sys.argv[1])
