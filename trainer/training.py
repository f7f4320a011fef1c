"""One training run: check everything, say what was decided, train, and leave a run folder."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from models.task import Prepared, Task
from trainer.checkpoints import run_metadata, save_trained
from trainer.ds_config import DEFAULT_PATH, complete_ds_config, read_ds_config, zero_stage
from trainer.engine import (
    check_ds_config,
    end_engine,
    free_memory,
    make_engine,
    parameter_summary,
    total_steps,
)
from trainer.loop import Trainer
from utils.background import Later
from utils.config.loading import dump
from utils.distributed import DistributedContext
from utils.files import write_whole
from utils.partitioning import end_partitioning, partition_on_loading
from utils.precision import describe_precision
from utils.runs import CONFIG, create_run_folder


def train(
    task: Task,
    distributed: DistributedContext,
    name: str,
    ds_config_path: str | None = None,
    ckpt_path: str | None = None,
) -> Path:
    """Train a task's module; of the module itself nothing stays in memory.

    Args:
        task: configuration, module and batches.
        distributed: the processes, see utils.distributed.start_distributed.
        name: run name, without the time.
        ds_config_path: DeepSpeed configuration; the default is the project's ds_config.json.
        ckpt_path: a run folder whose trained part is the start.

    Returns:
        The run folder. It is made only when module and data are in order. A module without trainable parameters
        has one too, so that it is evaluated like the others.

    Raises:
        UserError: whatever is wrong with configuration, files, data or checkpoint.
    """
    try:
        folder = _train(task, distributed, name, ds_config_path, ckpt_path)
    finally:
        end_partitioning()
    free_memory()
    return folder


def _train(
    task: Task,
    distributed: DistributedContext,
    name: str,
    ds_config_path: str | None,
    ckpt_path: str | None,
) -> Path:
    settings = task.config.training
    given = read_ds_config(ds_config_path or DEFAULT_PATH)
    ds_config, notes = complete_ds_config(
        given, settings.batch_size, settings.grad_clip, task.precision, task.accumulation_steps
    )
    check_ds_config(ds_config)
    set_seed(settings.seed)
    with partition_on_loading(ds_config):
        prepared = task.prepare(distributed)
    module = prepared.module
    start = module.trained_state()
    if ckpt_path:
        start, source = module.read_trained(Path(ckpt_path))
        module.load_trained_state(start, str(source))
    steps = total_steps(len(prepared.train), settings.num_epochs, ds_config)
    metadata = Later[dict[str, Any]](lambda: {})
    if distributed.is_main and settings.save_model:
        metadata = Later(partial(run_metadata, module, task.files, settings.seed))
    if not any(parameter.requires_grad for parameter in module.parameters()):
        return _keep_untrained(task, prepared, distributed, name, metadata)
    engine = make_engine(module, settings, ds_config, steps, start if task.precision != 32 else None)
    del start  # beside a module on a GPU it is a second copy
    folder = distributed.share(_make_folder(task, distributed, name))
    for line in _opening(task, prepared, distributed, ds_config, steps, notes):
        distributed.say(line)
    set_seed(settings.seed + distributed.rank)  # noise differs between ranks
    best = Trainer(engine, settings, distributed, folder, prepared.train, prepared.valid, metadata).fit()
    distributed.say(f"best {module.best.words} {best:.4f}")
    distributed.say(f"run folder: {folder}")
    end_engine(engine)
    return folder


def _keep_untrained(
    task: Task,
    prepared: Prepared,
    distributed: DistributedContext,
    name: str,
    metadata: Later[dict[str, Any]],
) -> Path:
    """The run folder of a module without trainable parameters."""
    folder = distributed.share(_make_folder(task, distributed, name))
    if task.config.training.save_model:
        save_trained(prepared.module, folder, distributed, metadata.result())
    for line in prepared.module.describe():
        distributed.say(line)
    distributed.say(f"nothing to train\nrun folder: {folder}")
    return folder


def _make_folder(task: Task, distributed: DistributedContext, name: str) -> Path | None:
    if not distributed.is_main:
        return None
    folder = create_run_folder(task.config.training.log_dir, name)
    write_whole(folder / CONFIG, dump(task.config))
    return folder


def _opening(
    task: Task,
    prepared: Prepared,
    distributed: DistributedContext,
    ds_config: dict[str, Any],
    steps: int,
    notes: Sequence[str],
) -> list[str]:
    """What the run prints before its first step."""
    batches, settings = len(prepared.train), task.config.training
    lines = [
        *prepared.module.describe(),
        parameter_summary(prepared.module),
        f"device {distributed.device}, {distributed.size} rank(s), {torch.get_num_threads()} thread(s) each, "
        f"{describe_precision(task.precision, distributed.device)}, ZeRO stage {zero_stage(ds_config)}",
        f"{batches} batches of {settings.batch_size} examples per rank and epoch, {steps} steps in all"
        + (f", {prepared.batching}" if prepared.batching else ""),
    ]
    choices = [*task.notes, *prepared.notes, *notes]
    return lines + [f"automatic choice: {choice}" for choice in choices]
