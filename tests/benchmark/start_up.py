"""From launch to the first training step: seconds, and peak memory per rank, of a file against its first ten dialogues.

`python -m tests.benchmark.start_up --data FILE --copies 17` runs train.py on a tiny LM: on ten dialogues, on the file
for the first time, and on the file again. Each rank is a process of its own and ends after its first step.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmark.setting import ROOT, SAMPLE
from utils.distributed import _free_port
from utils.errors import UserError, existing_file, run_main

LAUNCHED, REPORT = (
    "START_UP_LAUNCHED",
    "START_UP_REPORT",
)  # environment of a rank: time.time(), where its figures go


def main() -> None:
    """Measure the three runs for each number of ranks; print a table."""
    if REPORT in os.environ:
        _one_rank()
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=SAMPLE, help="a ConvAI2 file; default: the sample")
    parser.add_argument("--copies", type=int, default=17, help="how often it is repeated")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2], help="numbers of processes")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in train.py")
    args = parser.parse_args()
    existing_file(args.data, "dialogue file")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = args.data.read_text(encoding="utf-8")
        files = {"ten dialogues": _beginning(text, 10), "whole": text * args.copies}
        for kind, content in files.items():
            (folder / kind).write_text(content, encoding="utf-8")
        lm = _tiny_lm(folder)
        print("| ranks | file | launch | seconds to the first step | CPU seconds | peak MiB per rank |")
        print("|---|---|---|---|---|---|")
        for ranks in args.ranks:
            for kind, launch in (("ten dialogues", 1), ("ten dialogues", 2), ("whole", 1), ("whole", 2)):
                cache = folder / f"cache-{ranks}"
                rows = _launch(folder / kind, folder / "ten dialogues", lm, cache, ranks, args.set)
                seconds = max(row["seconds"] for row in rows)
                cpu = sum(row["cpu_seconds"] for row in rows)
                peaks = ", ".join(f"{row['peak_mib']:.0f}" for row in rows)
                print(f"| {ranks} | {kind} | {launch} | {seconds:.1f} | {cpu:.1f} | {peaks} |", flush=True)


def _one_rank() -> None:
    """train.py, up to its first step."""
    import deepspeed

    import train

    step = deepspeed.DeepSpeedEngine.step

    def last_step(engine: Any, *arguments: Any, **named: Any) -> None:
        step(engine, *arguments, **named)
        seconds = time.time() - float(os.environ[LAUNCHED])
        times = os.times()
        cpu = times.user + times.system + times.children_user + times.children_system
        figures = {"seconds": seconds, "cpu_seconds": cpu, "peak_mib": _peak_mib()}
        Path(os.environ[REPORT]).write_text(json.dumps(figures), encoding="utf-8")
        os._exit(0)

    deepspeed.DeepSpeedEngine.step = last_step
    run_main(train.main)


def _peak_mib() -> float:
    """The most memory that this process has had, files that it maps included."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _launch(
    data: Path, valid: Path, lm: Path, cache: Path, ranks: int, assignments: list[str]
) -> list[dict[str, float]]:
    """The figures of each rank."""
    config = ["--config=config/sample/spt.yml", f"--log_dir={data.parent / 'runs'}"]
    settings = {
        "dataset.train": data,
        "dataset.valid": valid,
        "model.model_name": lm,
        "dataset.cache_dir": cache,
    }
    assigned = [*(f"{key}={value}" for key, value in settings.items()), *assignments]
    command = [sys.executable, "-m", "tests.benchmark.start_up", *config]
    command += [f"--set={item}" for item in assigned]
    shared = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    reports = [data.parent / f"report-{rank}" for rank in range(ranks)]
    processes = []
    for rank, report in enumerate(reports):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), REPORT: str(report), LAUNCHED: str(time.time())}
        environment = {**os.environ, **shared, **own}
        processes.append(
            subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        )
    outputs = [process.communicate()[0].decode() for process in processes]
    if any(process.returncode for process in processes):
        raise UserError(f"a rank failed:\n{outputs[0][-3000:]}")
    return [json.loads(report.read_text(encoding="utf-8")) for report in reports]


def _beginning(text: str, dialogues: int) -> str:
    """The first dialogues of a ConvAI2 file."""
    blocks = ("\n" + text).split("\n1 ")
    return "".join(f"1 {block}\n" for block in blocks[1 : dialogues + 1])


def _tiny_lm(folder: Path) -> Path:
    """A tiny LM with random weights."""
    import torch
    from transformers import AutoModelForCausalLM

    from models.configuration import build_config
    from models.lm.base_lm import lm_config_of, train_tokenizer

    init = {"architecture": "opt", "hidden_size": 32, "num_layers": 2, "num_heads": 4, "vocab_size": 2000}
    sections = {
        "model": {"model_type": "language_model", "init": {**init, "max_positions": 640}},
        "dataset": {"train": str(SAMPLE)},
    }
    config = build_config([("start_up", sections)])
    tokenizer = train_tokenizer(config)
    torch.manual_seed(0)
    path = folder / "lm"
    AutoModelForCausalLM.from_config(lm_config_of(config.model.init, tokenizer)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


if __name__ == "__main__":
    run_main(main)
