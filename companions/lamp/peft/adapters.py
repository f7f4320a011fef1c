"""One LoRA adapter in an LM, which holds the values of one user at a time; each user's are a folder of their own.

The LM is loaded and wrapped once. A folder has the form of the peft library, which loads it by itself, too.
"""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import LoraConfig, TaskType, get_peft_model, get_peft_model_state_dict
from peft import set_peft_model_state_dict as set_state
from peft.tuners.lora import LoraLayer
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from companions.lamp.json_stream import read_object
from companions.lamp.lm.load import LM
from companions.lamp.peft.settings import AdapterSettings
from models.baselines.lora import is_transposed, projections
from utils.errors import UserError, existing_file, first_line, shown
from utils.files import to_json
from utils.folders import write_folder
from utils.untrusted import check_header, check_link

WEIGHTS, CONFIG, METADATA = "adapter_model.safetensors", "adapter_config.json", "training.json"

# what tells where an adapter is from, not what it does
_FREE = {"base_model_name_or_path", "revision", "inference_mode", "lora_dropout", "peft_version", "task_type"}
_T5 = ("q", "k", "v")


class UserAdapters:
    """The adapter of an LM.

    Args:
        lm: the LM, on its device; it is changed in place, and asked as before.
        settings: sizes.

    Raises:
        UserError: this LM's attention has no projection that is known by name.
    """

    def __init__(self, lm: LM, settings: AdapterSettings) -> None:
        names = {name.rpartition(".")[2] for name, _ in lm.model.named_modules()}
        self.config = LoraConfig(
            task_type=TaskType.SEQ_2_SEQ_LM if lm.has_encoder else TaskType.CAUSAL_LM,
            base_model_name_or_path=lm.name,
            r=settings.r,
            lora_alpha=settings.lora_alpha,
            lora_dropout=settings.lora_dropout,
            target_modules=list(_T5) if names.issuperset(_T5) else projections(lm.model),
            fan_in_fan_out=is_transposed(lm.model),
        )
        self.lm = lm
        with warnings.catch_warnings():  # the peft library asks for an attribute by its old name
            warnings.simplefilter("ignore", FutureWarning)
            self.model = get_peft_model(lm.model, self.config)
        lm.model.eval()  # new modules are in training mode, with dropout
        self.layers = [module for module in lm.model.modules() if isinstance(module, LoraLayer)]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What is trained."""
        return [parameter for parameter in self.lm.model.parameters() if parameter.requires_grad]

    def reset(self) -> None:
        """Values as at the start: an update of zero. Draws from torch's generator."""
        for layer in self.layers:
            layer.reset_lora_parameters("default", init_lora_weights=True)

    def enable(self, is_on: bool) -> None:
        """Whether the adapter counts; otherwise the LM is as it was."""
        for layer in self.layers:
            layer.enable_adapters(is_on)

    def state(self) -> dict[str, Tensor]:
        """The values by the names of the peft library, on the CPU."""
        state = get_peft_model_state_dict(self.model, save_embedding_layers=False)
        return {name: value.detach().cpu().contiguous() for name, value in state.items()}

    def save(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        """Write a user's folder, whole or not at all.

        Args:
            folder: in a folder that is there.
            metadata: stands beside the values, as `training.json`.

        Raises:
            UserError: it cannot be written.
        """
        config = {**_plain(self.config), "inference_mode": True}

        def fill(part: Path) -> None:
            save_file(self.state(), part / WEIGHTS)
            (part / CONFIG).write_text(to_json(config, indent=2) + "\n", encoding="utf-8")
            (part / METADATA).write_text(to_json(metadata, indent=2) + "\n", encoding="utf-8")

        write_folder(folder, fill)

    def load(self, folder: Path) -> None:
        """Take the values of a user's folder.

        Raises:
            UserError: the folder lacks a file, or its adapter does not fit into this LM.
        """
        found = dict(read_object(folder / CONFIG, "adapter"))
        for key, value in _plain(self.config).items():
            if key not in _FREE and key in found and _unordered(found[key]) != _unordered(value):
                raise UserError(f"{folder / CONFIG}: '{key}' is {shown(found[key])}, expected {shown(value)}")
        path = existing_file(folder / WEIGHTS, "adapter")
        check_link(path, folder)
        check_header(path)
        try:
            state = load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(f"{path}: not a readable safetensors file: {first_line(error)}") from None
        expected = self.state()
        for name in sorted(expected.keys() | state.keys()):
            shapes = [tuple(values[name].shape) if name in values else None for values in (state, expected)]
            if shapes[0] != shapes[1]:
                raise UserError(
                    f"{path}: '{name}' has the shape {shapes[0]}, expected {shapes[1]}: it belongs to another LM"
                )
        set_state(self.model, state)


def adapter_settings(folder: Path) -> AdapterSettings:
    """The sizes of a user's adapter.

    Raises:
        UserError: the folder has none.
    """
    content = dict(read_object(folder / CONFIG, "adapter"))
    try:
        return AdapterSettings.model_validate({key: content.get(key) for key in ("r", "lora_alpha")})
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{folder / CONFIG}: '{first['loc'][0]}': {first['msg']}") from None


def _plain(config: LoraConfig) -> dict[str, Any]:
    """As JSON has it."""
    content: dict[str, Any] = json.loads(json.dumps(config.to_dict(), default=_unordered))
    return content


def _unordered(value: Any) -> Any:
    """A list whose order says nothing, such as the library makes of sets, in an order of its own."""
    return (
        sorted(value) if isinstance(value, list | set) and all(isinstance(x, str) for x in value) else value
    )
