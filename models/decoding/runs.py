"""Reading a run folder: its configuration and its trained model.

Nothing that is read here can run code: safetensors, JSON, YAML, and tensors through a restricted reader.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.configuration import build_config, run_layer
from models.conversation import ConversationModel
from models.lm.precision import DTYPES
from models.registry import build_model, build_tokenizer, model_type
from models.release.checkpoint import FLOATS, read_config, read_module_state
from models.release.names import from_released, is_released_name
from models.release.settings import config_from_authors
from models.settings import Config
from utils.config.loading import COMMAND_LINE, parse_assignments
from utils.config.schema import merge
from utils.errors import UserError, first_line, shown
from utils.runs import AUTHORS_CONFIG, CHECKPOINTS, CONFIG, TRAINED

_LONGEST_TAG = 200
_SMALL = 32  # sizes up to this one are compared by name and shape when the model is there


def read_run_config(
    run: Path, assignments: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> Config:
    """The configuration of a run folder, ours or the authors', with `--set` and then a script's flags on top.

    A local LM that is not where the configuration says is looked for beside the run folder.

    Raises:
        UserError: there is none, or it is not valid.
    """
    over = (COMMAND_LINE, merge(parse_assignments(assignments), flags or {}))
    if (run / CONFIG).is_file():
        config = build_config([run_layer(run), over])
    elif (run / AUTHORS_CONFIG).is_file():
        config = config_from_authors(read_config(run / AUTHORS_CONFIG), str(run / AUTHORS_CONFIG), over)
    else:
        raise UserError(f"{run}: neither {CONFIG} nor {AUTHORS_CONFIG} is here; is it a run folder?")
    name = getattr(config.model, "model_name", None)
    # os.path, as Path's own raise for a name that is too long
    if name and not os.path.exists(name) and os.path.isfile(run.parent / name / "config.json"):
        # runs and their LM were moved together
        config = config.replaced({"model": {"model_name": str(run.parent / name)}})
    return config


def load_run(run: Path, config: Config) -> ConversationModel:
    """The trained model of a run folder, in evaluation mode and all of it in the precision of its LM.

    The file's float32 values are rounded to that precision, as in the validation that chose them.

    Raises:
        UserError: no checkpoint, or one that does not fit the configuration.
    """
    kind = model_type(config.model.model_type)
    if kind.decoded_as is not None:
        config = kind.decoded_as(config, run)
        return build_model(config, build_tokenizer(config)).eval()
    state, source = read_trained(run)  # before the LM, which takes longer to load
    for size in kind.stored_sizes(config, state):
        if size.asked > max(size.stored, _SMALL):
            raise UserError(
                f"{source} has {size.stored} for model.{size.key}, the configuration asks for {size.asked}"
            )
    model = build_model(config, build_tokenizer(config))
    model.load_trained_state(state, str(source))
    for parameter in model.parameters():
        parameter.data = parameter.data.to(DTYPES[config.model.load_bit])
    return model.eval()


def read_trained(run: Path) -> tuple[dict[str, Tensor], Path]:
    """The trained parameters of a run folder, and the file that they came from.

    Raises:
        UserError: there is no checkpoint, or it cannot be read.
    """
    if os.path.isfile(run / TRAINED):
        source = run / TRAINED
        try:
            state = load_file(source)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{source}: not a readable safetensors file: {first_line(error)}") from None
    else:
        source = run / CHECKPOINTS / _tag(run) / "mp_rank_00_model_states.pt"
        if not os.path.isfile(source):
            raise UserError(f"{run}: no checkpoint ({TRAINED} or {source.relative_to(run)}); train it first")
        state = from_released(read_module_state(source, is_released_name), str(source))
    for name, tensor in state.items():
        if tensor.dtype not in FLOATS or not torch.isfinite(tensor).all():
            raise UserError(f"{source}: {shown(name)} holds values that are no finite floating-point numbers")
    return state, source


def _tag(run: Path) -> str:
    """The authors' files name the tag in ds_ckpt/latest; a name with a path in it is refused."""
    latest = run / CHECKPOINTS / "latest"
    if os.path.isdir(run / CHECKPOINTS / "best") or not os.path.isfile(latest):
        return "best"
    with latest.open("rb") as file:
        tag = file.read(_LONGEST_TAG + 1).decode("utf-8", "replace").strip()
    if not tag or len(tag) > _LONGEST_TAG or not tag.isprintable() or Path(tag).name != tag:
        raise UserError(f"{latest}: {shown(tag)} is not the name of a checkpoint")
    return tag
