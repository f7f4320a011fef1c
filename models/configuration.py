"""Reading a configuration: its model type says which keys it has."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from models.registry import MODEL_TYPES, model_type
from models.settings import Config, LMSettings
from utils.config.loading import COMMAND_LINE, Layer, merged, parse_assignments, read_layers, validated
from utils.config.schema import Section, keys_of
from utils.config.strict_yaml import read_yaml
from utils.errors import UserError, nearest, shown
from utils.runs import CONFIG
from utils.untrusted import check_link

# every run up to version 0.1 wrote these keys of `model`, whatever its type
_KEYS_UP_TO_0_1 = set(
    "model_type model_name fidelity load_bit peft_type K peft_config normalizer normalizer_on score_activation "
    "retriever gradient_checkpointing prompt_init prompt_init_text init".split()
)


def load_config(
    path: str | Path, assignments: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> Config:
    """The configuration in `path` over its bases, overridden by `--set` and then by flags.

    Args:
        path: a YAML file with sections such as model, training, dataset; or the `config.yml` of a run folder.
        assignments: texts `section.key=value`.
        flags: nested sections from the script's own flags.

    Raises:
        UserError: an unknown key (with the nearest valid one), a wrong type, a contradiction.
    """
    return build_config([*config_layers(path, assignments), (COMMAND_LINE, flags or {})])


def config_layers(path: str | Path, assignments: Sequence[str] = ()) -> list[Layer]:
    """The layers of a configuration file and of `--set`, for `build_config`."""
    layers = [_own_keys(layer) for layer in read_layers(path)]
    return [*layers, (COMMAND_LINE, parse_assignments(assignments))]


def run_layer(run: Path) -> Layer:
    """The configuration that a run folder holds; a `base` is no key there, as a run stands alone."""
    return _own_keys((str(run / CONFIG), read_yaml(check_link(run / CONFIG, run))))


def _own_keys(layer: Layer) -> Layer:
    """A layer, without the keys of other model types where version 0.1 wrote it.

    Up to that version every run wrote the keys of all model types. Later ones write their own alone, so that a key of
    another type is somebody's mistake there.
    """
    path, content = layer
    model = content.get("model")
    if not isinstance(model, Mapping) or not _KEYS_UP_TO_0_1.issubset(model):
        return layer
    own = _keys(model_type(type_name([layer])).config_class())
    of_all = set().union(*(_keys(model_type(name).config_class()) for name in MODEL_TYPES))
    return path, _without(content, of_all - own)


def build_config(layers: Sequence[Layer]) -> Config:
    """A configuration from named layers of nested sections, the last one strongest.

    Raises:
        UserError: an unknown model type or key, a wrong type, a contradiction.
    """
    name = type_name(layers)
    return validated(
        layers, model_type(name).config_class(), f"model_type {name}", partial(_types_with_key, name)
    )


def type_name(layers: Sequence[Layer]) -> str:
    """The model type that the layers ask for.

    Raises:
        UserError: it is none.
    """
    model = merged(layers).get("model")
    name = model.get("model_type") if isinstance(model, Mapping) else None
    if name is None:
        return LMSettings().model_type
    if not isinstance(name, str) or name not in MODEL_TYPES:
        where = next(source for source, layer in reversed(layers) if _names_type(layer))
        hint = nearest(name, MODEL_TYPES) if isinstance(name, str) else ": a name is needed"
        raise UserError(f"{where}: model.model_type = {shown(name)}{hint}")
    return name


def _names_type(layer: Mapping[str, Any]) -> bool:
    model = layer.get("model")
    return isinstance(model, Mapping) and "model_type" in model


def _types_with_key(asked: str, key: str) -> str:
    """Which model types have a key that the one asked for has not."""
    types = [name for name in MODEL_TYPES if key in _keys(model_type(name).config_class())]
    return f": model_type {asked} has no such key; it is one of {', '.join(types)}" if types else ""


def _keys(section: type[Section]) -> set[str]:
    """Every key of a section as `section.key`, and the sections themselves."""
    keys = {key for key, _ in keys_of(section)}
    return keys | {key[:end] for key in keys for end in range(len(key)) if key[end] == "."}


def _without(content: Mapping[str, Any], dropped: set[str], prefix: str = "") -> dict[str, Any]:
    """Nested content without some keys."""
    return {
        key: _without(value, dropped, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in content.items()
        if prefix + key not in dropped
    }
