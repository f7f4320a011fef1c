"""All checks of utils/doctor.py in one report: the installation, and of a configuration its model, files and cost.

What needs seconds to be imported is imported where it is asked for: the first findings come at once.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import UserError
from utils.findings import Finding, Report
from utils.installation import (
    accelerator_findings,
    compiled_op_findings,
    encoding_finding,
    library_findings,
    python_finding,
)

if TYPE_CHECKING:
    import argparse

    from models.settings import Config

_LAUNCH = re.compile(r"#.*?python -m (companions[\w.]+)")
_HELP = ("-h", "--help")


def examine(arguments: Sequence[str] | None = None, report: Report | None = None) -> int:
    """Print the report; the exit status.

    Args:
        arguments: the command line; none for the installation alone.
        report: gets the findings.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    report = report or Report()
    if any(word in _HELP for word in arguments):
        return _help(arguments)
    report.add("installation", _installation())
    if not arguments:
        report.add("machine", _machine())
        return report.end()
    read: list[tuple[argparse.Namespace, Config]] = []
    report.add("configuration", _read(arguments, read))
    if not read:
        report.add("machine", _machine())
        return report.end()
    _of_configuration(*read[0], report)
    return report.end()


def _help(arguments: Sequence[str]) -> int:
    from models.arguments import read_train_arguments

    print("The flags of train.py, all of which may be given here; without any: the installation alone.\n")
    read_train_arguments(arguments)
    return 0


def _installation() -> Iterator[Finding]:
    yield python_finding()
    yield from library_findings()
    yield encoding_finding()
    yield from accelerator_findings()


def _machine(num_workers: int = 0, ds_config: dict[str, Any] | None = None) -> Iterator[Finding]:
    import torch
    from huggingface_hub import constants

    from utils.resources import disk_finding, hub_finding, machine_findings, shared_memory_finding

    yield from compiled_op_findings(ds_config)
    yield from machine_findings(torch.get_num_threads())
    shared = shared_memory_finding(num_workers)
    if shared is not None:
        yield shared
    if ds_config is None:
        yield disk_finding("this folder", ".", 0, "work elsewhere")
        yield disk_finding("HF cache", constants.HF_HUB_CACHE, 0, "set HF_HOME to another folder")
        yield hub_finding()


def _read(arguments: Sequence[str], read: "list[tuple[argparse.Namespace, Config]]") -> Iterator[Finding]:
    """The configuration, by the same reading as that of train.py; goes to `read`."""
    from models.arguments import read_train_arguments

    try:
        args, config = read_train_arguments(arguments)
    except UserError as error:
        command = _command_of(arguments)
        if command is not None and not command.startswith("companions.personagpt"):
            text = f"this is a configuration of `python -m {command}`, which checks it when it starts"
            text += "; the doctor knows those of train.py and of companions.personagpt.train"
            yield Finding("FAIL", "command", text)
        else:
            yield Finding("FAIL", "configuration", str(error))
        return
    read.append((args, config))
    yield Finding("ok", "configuration", f"{args.config}: valid")


def _command_of(arguments: Sequence[str]) -> str | None:
    """The companion's command that a configuration opens with, or None."""
    text = " ".join(arguments)
    found = re.search(r"--config[= ]+(\S+)", text)
    try:
        with Path(found[1] if found else "").open(encoding="utf-8", errors="replace") as stream:
            first = stream.read(500)
    except (OSError, ValueError):
        return None
    launch = _LAUNCH.match(first)
    return launch[1] if launch else None


def _of_configuration(args: "argparse.Namespace", config: "Config", report: Report) -> None:
    import torch
    from deepspeed.accelerator import get_accelerator
    from transformers.utils import logging as transformers_logging

    from models.checkup import Checkup
    from trainer.checkup import Estimate
    from utils.precision import decide_precision
    from utils.resources import available_memory, peak_memory

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    decided: dict[str, Any] = {}

    def engine() -> Iterator[Finding]:
        precision, reason = decide_precision(config.model.load_bit, "model.load_bit")
        decided["config"] = config.replaced({"model": {"load_bit": precision}})
        decided["ds_config"], notes = _ds_config(args, decided["config"])
        for note in [*([reason] if reason else []), *notes]:
            yield Finding("warn", "choice", f"{note} (as training will decide)")
        yield from _machine(config.training.num_workers, decided["ds_config"])

    report.add("machine and DeepSpeed", engine())
    if "ds_config" not in decided:
        return
    device = torch.device("cuda" if get_accelerator().device_name() == "cuda" else "cpu")
    base = peak_memory()
    memory = torch.cuda.mem_get_info()[0] if device.type == "cuda" else available_memory()
    checkup = Checkup(decided["config"])
    report.add("base LM", checkup.lm_findings(memory))
    report.add("training file", checkup.file_findings(training=True))
    report.add("validation file", checkup.file_findings(training=False))
    report.add("both files", checkup.overlap_findings())
    report.add("the training", _estimate(Estimate, checkup, decided["ds_config"], device, base))


def _estimate(kind: Any, *arguments: Any) -> Iterator[Finding]:
    yield from kind(*arguments).findings()


def _ds_config(args: "argparse.Namespace", config: "Config") -> tuple[dict[str, Any], list[str]]:
    """The complete DeepSpeed configuration, refused as a training refuses it."""
    from trainer.ds_config import DEFAULT_PATH, complete_ds_config, read_ds_config
    from trainer.engine import check_ds_config

    settings = config.training
    given = read_ds_config(args.deepspeed_config or DEFAULT_PATH)
    completed, notes = complete_ds_config(
        given, settings.batch_size, settings.grad_clip, config.model.load_bit
    )
    check_ds_config(completed)
    return completed, notes
