"""A fitted router in a run folder: written by `trainer.fit_router --save`, read where `router: fitted` asks for it.

RUN/router.safetensors holds the weights, RUN/router.json what they were fitted on.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from models.conversation import ConversationModel
from models.decoding.settings import DecodingSettings
from models.lm.language_model import weights_sha256
from models.routing.features import TURNS
from models.routing.router import LinearRouter
from models.trained_part import read_trained
from utils.errors import UserError, existing_file, first_line, shown
from utils.files import to_json, write_together
from utils.untrusted import check_header, check_link

ROUTER, METADATA = "router.safetensors", "router.json"
_LARGEST = 1 << 20  # bytes of router.json
_REMEDY = "fit it with python -m trainer.fit_router RUN --save"


def write_router(run: Path, router: LinearRouter, metadata: Mapping[str, Any]) -> None:
    """Put a router into a run folder, with the hash of the trained part that it was fitted on.

    Raises:
        UserError: one of the files cannot be written.
    """
    values = {name: getattr(router, name) for name in LinearRouter.__dataclass_fields__}
    tensors = {name: torch.from_numpy(value).contiguous() for name, value in values.items()}
    content = {**metadata, "trained_values_sha256": trained_hash(run)}
    write_together(run, {ROUTER: partial(save_file, tensors), METADATA: to_json(content, indent=2) + "\n"})


def router_of(run: Path, model: ConversationModel, settings: DecodingSettings) -> LinearRouter | None:
    """The router that a run's prompts are to be chosen by; None: the model chooses them itself.

    Raises:
        UserError: there is none, or it is of another trained part, or damaged.
    """
    if settings.router == "trained":
        return None
    path = check_link(run / ROUTER, run)
    if not path.exists():
        raise UserError(f"{settings.name}.router: fitted: {run} has no {ROUTER}; {_REMEDY}")
    described = existing_file(check_link(run / METADATA, run), f"{run}: {METADATA}", _LARGEST)
    try:
        metadata = json.loads(described.read_text(encoding="utf-8"))
        check_header(path)
        tensors = load_file(path)
    except UserError as error:
        raise UserError(f"{error}; {_REMEDY}") from None
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a readable router: {first_line(error)}; {_REMEDY}") from None
    if not isinstance(metadata, dict) or metadata.get("trained_values_sha256") != trained_hash(run):
        raise UserError(f"{path} was fitted on other trained values than this run's; {_REMEDY}")
    theirs, base_lm = metadata.get("base_model_sha256"), model.config.model.base_lm
    if theirs is not None and base_lm and theirs != (weights_sha256(base_lm) or theirs):
        raise UserError(
            f"{path} reads the hidden states of another base LM ({shown(metadata.get('base_model'))}) than "
            f"{base_lm}: their weights differ; {_REMEDY}"
        )
    count, width = model.num_prompts, 2 * model.lm.head_weight.shape[1]
    wanted = {"of_context": [count, width], "of_turns": [count, TURNS], "bias": [count]}
    if {name: list(tensor.shape) for name, tensor in tensors.items()} != wanted:
        raise UserError(f"{path}: not the weights of {count} prompts on this LM; {_REMEDY}")
    if not all(tensor.is_floating_point() and tensor.isfinite().all() for tensor in tensors.values()):
        raise UserError(f"{path}: values that are no finite floating-point numbers; {_REMEDY}")
    return LinearRouter(**{name: tensor.double().numpy() for name, tensor in tensors.items()})


def trained_hash(run: Path) -> str:
    """Hex digest of a run's trained values, whichever file they are in.

    Raises:
        UserError: see `read_trained`.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(read_trained(run)[0].items()):
        digest.update(f"{name} {list(tensor.shape)} ".encode())
        digest.update(tensor.float().contiguous().numpy().tobytes())
    return digest.hexdigest()
