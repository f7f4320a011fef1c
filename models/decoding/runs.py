"""Reading a run folder: its configuration and its trained model.

Nothing that is read here can run code: safetensors, JSON, YAML, and tensors through a restricted reader.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.configuration import build_config, run_layer
from models.conversation import ConversationModel
from models.registry import build_model, build_tokenizer, model_type
from models.release.checkpoint import AUTHORS_CONFIG, read_config
from models.release.settings import config_from_authors
from models.settings import Config
from models.trained_part import read_trained
from utils.config.loading import COMMAND_LINE, parse_assignments
from utils.config.schema import merge
from utils.errors import UserError
from utils.precision import DTYPES
from utils.runs import CONFIG

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
    name = config.model.base_lm
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
