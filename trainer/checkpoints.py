"""Checkpoints: DeepSpeed's own for going on, safetensors and a JSON metadata for everybody else.

Nothing that is read here can run code: safetensors, JSON, YAML, and tensors through a restricted reader.
"""

import shutil
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import deepspeed
from safetensors.torch import save_file
from torch import Tensor

from models.conversation import ConversationModel
from models.lm.language_model import base_lm_folder, weights_sha256
from models.settings import Config
from trainer.float32 import get_float32
from utils.distributed import DistributedContext
from utils.errors import UserError, first_line
from utils.files import file_sha256, to_json, write_errors, write_folder, write_together
from utils.runs import CHECKPOINTS, METADATA, TRAINED

_LONGEST_TAG = 200
_LIBRARIES = ("torch", "transformers", "deepspeed", "tokenizers", "safetensors")


def save_checkpoint(
    engine: deepspeed.DeepSpeedEngine, folder: Path, tag: str, distributed: DistributedContext
) -> None:
    """`ds_ckpt/{tag}`, without the frozen LM; every rank must call it.

    Raises:
        UserError: it cannot be written.
    """
    try:
        with write_errors(folder / CHECKPOINTS / tag):
            engine.save_checkpoint(str(folder / CHECKPOINTS), tag=tag, exclude_frozen_parameters=True)
    except RuntimeError as error:  # torch's own writer does not say what the system said
        free = shutil.disk_usage(folder).free >> 20
        raise UserError(
            f"cannot write {folder / CHECKPOINTS / tag}: {first_line(error)} ({free} MiB are left on its disk)"
        ) from error
    distributed.barrier()


def save_trained(
    model: ConversationModel, folder: Path, distributed: DistributedContext, metadata: dict[str, Any]
) -> None:
    """The trained part as safetensors with its metadata; a base LM in the Hugging Face format instead.

    The safetensors file holds the float32 values that were trained, whatever the model's own precision. Every
    rank must call it.
    """
    if model.config.model.model_type == "language_model":
        with deepspeed.zero.GatheredParameters(list(model.parameters())):
            if distributed.is_main:
                _save_base_lm(model, base_lm_folder(folder))
    else:
        state = _trained_float32(model, distributed)
        if distributed.is_main:
            # the metadata is the mark: weights of one step never lie beside what is said of another
            write_together(
                folder, {TRAINED: partial(save_file, state), METADATA: to_json(metadata, indent=2) + "\n"}
            )
    distributed.barrier()


def _trained_float32(model: ConversationModel, distributed: DistributedContext) -> dict[str, Tensor]:
    """The trained parameters by name, float32 and on the CPU; on the other ranks nothing is kept."""
    state = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            value = get_float32(parameter)
            if distributed.is_main:
                state[name] = value.float().cpu().contiguous()
    return state


def _save_base_lm(model: ConversationModel, folder: Path) -> None:
    def fill(part: Path) -> None:
        model.lm.model.save_pretrained(part)
        model.tokenizer.save_pretrained(part)

    write_folder(folder, fill)


def run_metadata(config: Config, model: ConversationModel) -> dict[str, Any]:
    """What one must know to use the trained part: base model and hash of its files, sizes, data, seed, versions."""
    name = getattr(config.model, "model_name", None)
    return {
        "model_type": config.model.model_type,
        "base_model": name,
        "base_model_sha256": weights_sha256(name) if name else None,
        "K": model.num_prompts,
        "V": model.num_virtual_tokens,
        "D": model.lm.width,
        "fidelity": config.model.fidelity,
        "train": config.dataset.train,
        "train_sha256": file_sha256(config.dataset.train),
        "seed": config.training.seed,
        "versions": {library: version(library) for library in _LIBRARIES},
    }
