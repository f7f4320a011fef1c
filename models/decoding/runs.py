"""Reading a run folder: its configuration and its trained model.

Nothing that is read here can run code: safetensors, JSON, YAML, and tensors through a restricted reader.
"""

import os
from pathlib import Path

from torch import Tensor

from models.conversation import ConversationModel
from models.lm.language_model import base_lm_folder
from models.lm.precision import DTYPES
from models.registry import build_model, build_tokenizer
from models.release.checkpoint import read_config
from models.trained_part import read_trained
from utils.config import build_config, config_from_authors, parse_assignments, read_yaml
from utils.errors import UserError
from utils.runs import AUTHORS_CONFIG, CONFIG
from utils.schema import Config


def read_run_config(run: Path, assignments: list[str]) -> Config:
    """The configuration of a run folder, ours or the authors', with `--set` on top.

    A local LM that is not where the configuration says is looked for beside the run folder.

    Raises:
        UserError: there is none, or it is not valid.
    """
    over = ("the command line", parse_assignments(assignments))
    if (run / CONFIG).is_file():
        config = build_config([(str(run / CONFIG), read_yaml(run / CONFIG)), over])
    elif (run / AUTHORS_CONFIG).is_file():
        config = config_from_authors(read_config(run / AUTHORS_CONFIG), str(run / AUTHORS_CONFIG), over)
    else:
        raise UserError(f"{run}: neither {CONFIG} nor {AUTHORS_CONFIG} is here; is it a run folder?")
    name = config.model.model_name
    # os.path, as Path's own raise for a name that is too long
    if name and not os.path.exists(name) and os.path.isfile(run.parent / name / "config.json"):
        config.model.model_name = str(run.parent / name)  # runs and their LM were moved together
    return config


def load_run(run: Path, config: Config) -> ConversationModel:
    """The trained model of a run folder, in evaluation mode and all of it in the precision of its LM.

    The file's float32 values are rounded to that precision, as in the validation that chose them.

    Raises:
        UserError: no checkpoint, or one that does not fit the configuration.
    """
    if config.model.model_type == "language_model":
        # such a run is its LM: it replies to the prompt text alone
        config.model.model_name, config.model.model_type = str(base_lm_folder(run)), "textual"
        return build_model(config, build_tokenizer(config)).eval()
    state, source = read_trained(run)  # before the LM, which takes longer to load
    _check_sizes(config, state, source)
    model = build_model(config, build_tokenizer(config))
    model.load_trained_state(state, str(source))
    for parameter in model.parameters():
        parameter.data = parameter.data.to(DTYPES[config.model.load_bit])
    return model.eval()


def _check_sizes(config: Config, state: dict[str, Tensor], source: Path) -> None:
    """Compare what a few bytes of a config.yml can make large with the file, before memory is taken for it.

    Raises:
        UserError: the file is of another configuration.
    """
    virtual = [
        state[name].shape[axis]
        for name, axis in (("soft_prompts.weight", 1), ("prefix", 3))
        if name in state and state[name].dim() > axis
    ]
    layers = len({name.split(".")[3] for name in state if name.startswith("retriever.encoder.layers.")})
    encoder, sizes = config.model.retriever, config.model.peft_config
    for what, asked, found in [
        ("peft_config.num_virtual_tokens", sizes.num_virtual_tokens, virtual[0] if virtual else 0),
        ("retriever.num_layers", encoder.num_layers if encoder.retriever_type else 0, layers),
    ]:
        if asked > max(found, 32):  # what is small is compared by name and shape when the model is there
            raise UserError(f"{source} has {found} for model.{what}, the configuration asks for {asked}")
