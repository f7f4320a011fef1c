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
from utils.runs import CONFIG, is_run


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
    over = (COMMAND_LINE, parse_assignments(assignments))
    if Path(path).name == CONFIG and is_run(Path(path).parent):
        return [run_layer(Path(path).parent), over]
    return [*read_layers(path), over]


def run_layer(run: Path) -> Layer:
    """The configuration that a run folder holds.

    Up to version 0.1 every run wrote the keys of all model types; those that its own type has not are left out.
    """
    path = run / CONFIG
    content = read_yaml(path)
    own = _keys(model_type(type_name([(str(path), content)])).config_class())
    if not _paths(content) <= own:
        of_all = set().union(*(_keys(model_type(name).config_class()) for name in MODEL_TYPES))
        content = _without(content, of_all - own)
    return str(path), content


def build_config(layers: Sequence[Layer]) -> Config:
    """A configuration from named layers of nested sections, the last one strongest.

    Raises:
        UserError: an unknown model type or key, a wrong type, a contradiction.
    """
    name = type_name(layers)
    return validated(layers, model_type(name).config_class(), f"model_type {name}", partial(_owners, name))


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


def _owners(asked: str, key: str) -> str:
    """Which model types have a key that the one asked for has not."""
    owners = [name for name in MODEL_TYPES if key in _keys(model_type(name).config_class())]
    return f": model_type {asked} has no such key; it is one of {', '.join(owners)}" if owners else ""


def _keys(section: type[Section]) -> set[str]:
    """Every key of a section as `section.key`, and the sections themselves."""
    keys = {key for key, _ in keys_of(section)}
    return keys | {key[:end] for key in keys for end in range(len(key)) if key[end] == "."}


def _paths(content: Mapping[str, Any], prefix: str = "") -> set[str]:
    """The keys of nested content, in the same way."""
    paths = {prefix + key for key in content}
    inner = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    return paths.union(*(_paths(value, f"{prefix}{key}.") for key, value in inner.items()))


def _without(content: Mapping[str, Any], dropped: set[str], prefix: str = "") -> dict[str, Any]:
    """Nested content without some keys."""
    return {
        key: _without(value, dropped, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in content.items()
        if prefix + key not in dropped
    }
