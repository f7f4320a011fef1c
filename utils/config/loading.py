"""From files and the command line to a section: layers on one another, mistakes explained in one line.

A layer is a named mapping of nested keys. A file may name a `base`, which lies under it. Which keys there are, and
their types, the section says (utils/config/schema.py).
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from utils.config.schema import Section, merge, nested, plain_types, section_of, words_of
from utils.config.strict_yaml import load_yaml, read_yaml, yaml_fault
from utils.errors import UserError, existing_file, nearest, shown

Layer = tuple[str, Mapping[str, Any]]
"""a name for messages, such as the file, and nested keys"""

COMMAND_LINE = "the command line"
_BASE = "base"
_DEEPEST = 20  # sections in one another; ours are three
_AnySection = TypeVar("_AnySection", bound=Section)


def read_layers(path: str | Path) -> list[Layer]:
    """The content of a file, on that of the file that its key `base` names, and so on; the weakest first.

    A `base` is looked for beside the file that names it.

    Raises:
        UserError: a file is missing or is not valid YAML, or a base leads back to a file before it.
    """
    layers: list[Layer] = []
    seen: set[Path] = set()
    while True:
        content = read_yaml(path)
        seen.add(Path(path).resolve())
        layers.insert(0, (str(path), content))
        if _BASE not in content:
            return layers
        base = content.pop(_BASE)
        if not isinstance(base, str) or not base:
            raise UserError(f"{path}: base = {shown(base)}: the name of another configuration file is needed")
        asked, path = f"{path}: base = {shown(base)}", Path(path).parent / base
        try:
            is_seen = path.resolve() in seen
        except (OSError, ValueError, RuntimeError):  # no name of a file, or links in a circle
            raise UserError(f"{asked} is no name of a file") from None
        if is_seen:
            raise UserError(f"{asked} leads back to a file that has it as its base")
        existing_file(path, f"{asked}: configuration")


def merged(layers: Sequence[Layer]) -> dict[str, Any]:
    """The content of all layers, the last one strongest."""
    content: dict[str, Any] = {}
    for _, layer in layers:
        content = merge(content, layer)
    return content


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Turn `["model.K=2", ...]` of `--set` into nested sections; values are read as YAML.

    Raises:
        UserError: no `=`, or a key without its section.
    """
    sections: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        parts = key.strip().split(".")
        if not equals or not 2 <= len(parts) <= _DEEPEST or not all(parts):
            raise UserError(f"--set {assignment}: write section.key=value, such as model.K=2")
        try:
            value = load_yaml(text)
        except yaml.YAMLError as error:
            raise UserError(f"--set {assignment}: the value is not valid YAML: {yaml_fault(error)}") from None
        sections = merge(sections, nested({".".join(parts): value}))
    return sections


def validated(
    layers: Sequence[Layer],
    section: type[_AnySection],
    of_what: str = "",
    hint: Callable[[str], str] = lambda key: "",
) -> _AnySection:
    """A section from layers over its defaults.

    Args:
        layers: the last one is the strongest.
        section: what the keys are and mean.
        of_what: what the section belongs to, for messages, such as "model_type lora".
        hint: more words on a key that the section does not have; the nearest key is named where it has none.

    Raises:
        UserError: an unknown key (with the nearest valid one), a wrong type, a contradiction.
    """
    try:
        made = section.model_validate(_as_meant(merged(layers), section))
    except ValidationError as error:
        raise UserError(_explained(error, layers, section, of_what, hint)) from None
    broken = made.contradictions()
    if broken:
        raise UserError(f"{_brought_by(broken[0], layers, section)}: {broken[0]}")
    return made


def _brought_by(sentence: str, layers: Sequence[Layer], section: type[Section]) -> str:
    """The layer with which a contradiction came up; the file that was asked for where even the defaults have it."""
    for number in range(len(layers) - 1, -1, -1):
        try:
            below = section.model_validate(_as_meant(merged(layers[:number]), section))
        except ValidationError:  # not whole without the layers above
            continue
        if sentence not in below.contradictions():
            return layers[number][0]
    return next((name for name, _ in reversed(layers) if name != COMMAND_LINE), "the defaults")


def dump(section: Section) -> str:
    """All keys of a section as YAML text."""
    return yaml.safe_dump(section.model_dump(), sort_keys=False, allow_unicode=True)


def _as_meant(content: Any, section: type[Section]) -> Any:
    """Fix what YAML 1.1 reads otherwise than people write: 1e-5 is a text there, 1 an integer, and off is false."""
    if not isinstance(content, Mapping):
        return content
    fixed = {}
    for key, value in content.items():
        field = section.model_fields.get(key)
        inner = section_of(field) if field else None
        if inner is not None:
            value = _as_meant(value, inner)
        elif field and value is False and "off" in words_of(field.annotation):
            value = "off"
        elif field and float in plain_types(field.annotation) and _is_number_or_text(value):
            with contextlib.suppress(ValueError, OverflowError):  # stays as it is, and is reported
                value = float(value)
        fixed[key] = value
    return fixed


def _is_number_or_text(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _explained(
    error: ValidationError,
    layers: Sequence[Layer],
    section: type[Section],
    of_what: str,
    hint: Callable[[str], str],
) -> str:
    """One line for the first fault, naming the key, where it was written, and the nearest valid key."""
    faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    fault = faults[0]
    # an unknown key, which stands last, may be called as it likes
    known = fault["loc"][:-1] if fault["type"] == "extra_forbidden" else fault["loc"]
    path = [part for part in known if isinstance(part, str) and not _is_type_name(part)]
    path += [str(part) for part in fault["loc"][len(known) :]]
    key = ".".join(path)
    written = path[:-1] if fault["type"] == "missing" else path
    where = next((name for name, layer in reversed(layers) if _holds(layer, written)), "the defaults")
    if fault["type"] == "extra_forbidden":
        more = hint(key) or nearest(path[-1], _section_at(section, path[:-1]).model_fields)
        return f"{where}: unknown key {shown(key)}{more}"
    if fault["type"] == "missing":
        return f"{where}: '{key}' is missing" + (f", which {of_what} needs" if of_what else "")
    return f"{where}: {key} = {shown(fault['input'])}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _is_type_name(part: str) -> bool:
    """Pydantic puts the name of a union's member into the location; it is no key."""
    return "[" in part or part in {"int", "float", "str", "bool"}


def _holds(layer: Mapping[str, Any], path: Sequence[str]) -> bool:
    node: Any = layer
    for part in path:
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return True


def _section_at(section: type[Section], path: Sequence[str]) -> type[Section]:
    for part in path:
        section = section_of(section.model_fields[part]) or section
    return section
