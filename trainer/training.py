"""One training run: check everything, say what was decided, train, and leave a run folder."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed
from transformers.utils import logging as transformers_logging

from dataset.loading import Ranks
from models.conversation import ConversationModel
from models.decoding.runs import read_trained
from models.lm.precision import PRECISIONS
from models.reading import make_loader
from models.registry import build_model, build_tokenizer
from models.settings import Config
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
from utils.config.loading import dump
from utils.distributed import DistributedContext, decide_precision
from utils.files import write_whole
from utils.runs import CONFIG, create_run_folder


def train(
    config: Config,
    distributed: DistributedContext,
    name: str,
    ds_config_path: str | None = None,
    ckpt_path: str | None = None,
) -> Path:
    """Train the model of a configuration; of the model itself nothing stays in memory.

    Args:
        config: the resolved configuration.
        distributed: the processes, see trainer.engine.start_distributed.
        name: run name, without the time.
        ds_config_path: DeepSpeed configuration; the default is the project's ds_config.json.
        ckpt_path: a run folder whose trained part is the start.

    Returns:
        The run folder. It is made only when model and data are in order.

    Raises:
        UserError: whatever is wrong with configuration, files, data or checkpoint.
    """
    folder = _train(config, distributed, name, ds_config_path, ckpt_path)
    free_memory()
    return folder


def _train(
    config: Config,
    distributed: DistributedContext,
    name: str,
    ds_config_path: str | None,
    ckpt_path: str | None,
) -> Path:
    transformers_logging.disable_progress_bar()
    given = read_ds_config(ds_config_path or DEFAULT_PATH)
    precision, reason = decide_precision(config.model.load_bit)
    config = config.replaced({"model": {"load_bit": precision}})
    ds_config, notes = complete_ds_config(given, config, precision)
    check_ds_config(ds_config)
    set_seed(config.training.seed)
    tokenizer = build_tokenizer(config)
    model = build_model(config, tokenizer)
    limit = model.text_limit(0)
    choices = [reason] if reason else []
    if limit is not None and limit < config.dataset.max_token_length:
        choices.append(
            f"texts are cut to {limit} tokens, not {config.dataset.max_token_length}: the LM's positions"
        )
    if tokenizer.pad_token_id is None:
        choices.append("padding with eos: the tokenizer has no pad token; targets are marked by position")
    ranks = Ranks(distributed.rank, distributed.size)
    train_loader = make_loader(
        config.dataset.train, tokenizer, config, train=True, ranks=ranks, max_tokens=limit
    )
    valid_loader = make_loader(
        config.dataset.valid, tokenizer, config, train=False, ranks=ranks, max_tokens=limit
    )
    start = model.trained_state()
    if ckpt_path:
        start, source = read_trained(Path(ckpt_path))
        model.load_trained_state(start, str(source))
    steps = total_steps(len(train_loader), config, ds_config)
    metadata = run_metadata(config, model) if distributed.is_main else {}
    if config.model.model_type == "textual":
        return _keep_untrained(config, distributed, name, model, metadata)
    engine = make_engine(model, config, ds_config, steps, start if precision != 32 else None)
    del start  # beside a model on a GPU it is a second copy
    folder = distributed.share(_make_folder(config, distributed, name))
    for line in _opening(config, distributed, model, choices + notes, ds_config, len(train_loader), steps):
        distributed.say(line)
    set_seed(config.training.seed + distributed.rank)  # noise differs between ranks
    best = Trainer(engine, config.training, distributed, folder, train_loader, valid_loader, metadata).fit()
    distributed.say(f"best validation loss {best:.4f}")
    distributed.say(f"run folder: {folder}")
    end_engine(engine)
    return folder


def _keep_untrained(
    config: Config,
    distributed: DistributedContext,
    name: str,
    model: ConversationModel,
    metadata: dict[str, Any],
) -> Path:
    """A run folder of a model without trainable parameters, so that it is decoded and scored like the others."""
    folder = distributed.share(_make_folder(config, distributed, name))
    if config.training.save_model:
        save_trained(model, folder, distributed, metadata)
    distributed.say(f"{config.model.model_type}: nothing to train\nrun folder: {folder}")
    return folder


def _make_folder(config: Config, distributed: DistributedContext, name: str) -> Path | None:
    if not distributed.is_main:
        return None
    folder = create_run_folder(config.training.log_dir, name)
    write_whole(folder / CONFIG, dump(config))
    return folder


def _opening(
    config: Config,
    distributed: DistributedContext,
    model: ConversationModel,
    choices: Sequence[str],
    ds_config: dict[str, Any],
    batches: int,
    steps: int,
) -> list[str]:
    """What the run prints before its first step."""
    precision = PRECISIONS[config.model.load_bit]
    sizes = f"K = {model.num_prompts}, V = {model.num_virtual_tokens}, " if model.num_prompts else ""
    name = getattr(config.model, "model_name", None)
    lines = [
        f"{config.model.model_type} on {name or 'a new LM'} ({sizes}D = {model.lm.width}, "
        f"fidelity {config.model.fidelity})",
        parameter_summary(model),
        f"device {distributed.device}, {distributed.size} rank(s), {torch.get_num_threads()} thread(s) each, "
        f"{precision}, ZeRO stage {zero_stage(ds_config)}",
        f"{batches} batches of {config.training.batch_size} examples per rank and epoch, {steps} steps in all, "
        f"rows: {config.training.rows}",
    ]
    return lines + [f"automatic choice: {choice}" for choice in choices]


def set_tokenizer_threads(parallel: bool) -> None:
    """`--tokenizer_parallel`: whether the tokenizers library may use threads of its own."""
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if parallel else "false"
