"""One training run: check everything, say what was decided, train, and leave a run folder."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import set_seed

from models.task import Prepared, Task
from trainer.checkpoints import open_checkpoint, run_metadata, save_trained
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
from trainer.resume import (
    START,
    Resumed,
    Start,
    check_places,
    check_same_config,
    load_values,
    read_start,
    start_to_json,
)
from utils.background import Later
from utils.config.loading import dump
from utils.distributed import DistributedContext
from utils.errors import UserError
from utils.liveness import together
from utils.partitioning import end_partitioning, partition_on_loading
from utils.precision import describe_precision, set_deterministic
from utils.runs import CONFIG, create_run_folder


def train(
    task: Task,
    distributed: DistributedContext,
    name: str,
    ds_config_path: str | None = None,
    ckpt_path: str | None = None,
    resume: str | None = None,
) -> Path:
    """Train a task's module; of the module itself nothing stays in memory.

    Args:
        task: configuration, module and batches.
        distributed: the processes, see utils.distributed.start_distributed.
        name: run name, without the time.
        ds_config_path: DeepSpeed configuration; the default is the project's ds_config.json.
        ckpt_path: a run folder whose trained part is the start.
        resume: a run folder whose training goes on as if it had never stopped; name and start are then its own.
            The DeepSpeed configuration and the number of ranks may be others.

    Returns:
        The run folder. It is made only when module and data are in order. A module without trainable parameters
        has one too, so that it is evaluated like the others.

    Raises:
        UserError: whatever is wrong with configuration, files, data or checkpoint.
    """
    try:
        folder = _train(task, distributed, name, ds_config_path, ckpt_path, resume)
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
    resume: str | None,
) -> Path:
    settings = task.config.training
    folder = Path(resume) if resume else None
    start = read_start(folder) if folder else None
    if folder and start:
        check_same_config(folder, task.config)
        if not settings.save_model:
            raise UserError(
                f"--resume {folder}: this run keeps nothing (training.save_model: false); begin a new one"
            )
        ckpt_path = start.ckpt_path
        if not ds_config_path:
            check_places(folder, start.ds_config)
    given = (
        start.ds_config if start and not ds_config_path else read_ds_config(ds_config_path or DEFAULT_PATH)
    )
    ds_config, notes = complete_ds_config(
        given, settings.batch_size, settings.grad_clip, task.precision, task.accumulation_steps
    )
    check_ds_config(ds_config)
    found = open_checkpoint(folder) if folder else None
    resumed = Resumed(*found, settings.seed) if found else None
    if folder and resumed and resumed.progress.epoch >= settings.num_epochs:
        distributed.say(f"all {settings.num_epochs} epoch(s) are trained\nrun folder: {folder}")
        return folder
    set_deterministic(settings.deterministic)
    set_seed(settings.seed)
    with partition_on_loading(ds_config):
        prepared = task.prepare(distributed)
    module = prepared.module
    values: Mapping[str, Tensor]
    if resumed:
        values = load_values(module, resumed.file)
    elif ckpt_path and module.warm_start_key:
        raise UserError(
            f"--ckpt_path and {module.warm_start_key} both say what the training starts from: leave one of them out"
        )
    elif ckpt_path:
        values, source = module.read_trained(Path(ckpt_path))
        module.load_trained_state(values, str(source))
    else:
        module.warm_start()
        module.measure(prepared.train, distributed)
        values = module.trained_state()
    steps = total_steps(len(prepared.train), settings.num_epochs, ds_config)
    metadata = Later[dict[str, Any]](lambda: {})
    if distributed.is_main and settings.save_model:
        metadata = Later(partial(run_metadata, module, task.files, settings.seed))
    started = Start(ds_config=given, ckpt_path=ckpt_path and str(Path(ckpt_path).resolve()))
    make_folder = partial(_make_folder, task, distributed, name, started)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        return _keep_untrained(
            task, prepared, distributed, folder or distributed.share(make_folder()), metadata
        )
    engine = make_engine(module, settings, ds_config, steps, values if task.precision != 32 else None)
    del values  # beside a module on a GPU it is a second copy
    if resumed:
        with together(distributed):
            if distributed.is_main:
                resumed.check_files(metadata.result())
        resumed.restore(engine, steps)
    folder = folder or distributed.share(make_folder())
    for line in _opening(task, prepared, distributed, ds_config, steps, notes):
        distributed.say(line)
    if resume:
        distributed.say(f"resumed at step {resumed.progress.steps if resumed else 0} of {folder}")
    set_seed(settings.seed + distributed.rank)  # noise differs between ranks
    trainer = Trainer(
        engine, settings, distributed, folder, prepared.train, prepared.valid, metadata, steps, resumed
    )
    for fault, sentence in prepared.warnings.items():
        trainer.faults.say(fault, sentence, epoch=0, step=0)
    best = trainer.fit()
    distributed.say(f"best {module.best.words} {best:.4f}")
    distributed.say(f"run folder: {folder}")
    end_engine(engine)
    return folder


def _keep_untrained(
    task: Task,
    prepared: Prepared,
    distributed: DistributedContext,
    folder: Path,
    metadata: Later[dict[str, Any]],
) -> Path:
    """The run folder of a module without trainable parameters."""
    if task.config.training.save_model:
        save_trained(prepared.module, folder, distributed, metadata.result())
    for line in prepared.module.describe():
        distributed.say(line)
    distributed.say(f"nothing to train\nrun folder: {folder}")
    return folder


def _make_folder(task: Task, distributed: DistributedContext, name: str, start: Start) -> Path | None:
    if not distributed.is_main:
        return None
    contents = {START: start_to_json(start), CONFIG: dump(task.config)}
    return create_run_folder(task.config.training.log_dir, name, contents)


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
