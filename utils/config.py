"""Reading a configuration: default.yml, then the file, then the command line; typos are errors.

The file is read with a safe loader that also refuses duplicate keys. The result is a `Config`.
"""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from utils.errors import UserError, existing_file, first_line, nearest, shown
from utils.schema import Config

DEFAULTS = Path(__file__).resolve().parent.parent / "config" / "default.yml"


_LARGEST = 1 << 20  # bytes of a file; ours have a few thousand
_MOST_SETTINGS = 1 << 20  # characters, with every alias written out


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, and keys that are not text (`1:`, but also `no:`)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # `<<: *anchor`, which the keys beside it override
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {shown(key)} is not a text", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {shown(key)} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """As PyYAML; its own readers of scalars fail in many ways on a text that a tag such as `!!bool` forces."""
        try:
            return super().construct_object(node, deep=deep)
        except (KeyError, IndexError, AttributeError, OverflowError):
            raise yaml.constructor.ConstructorError(
                None, None, f"{shown(node.value)} is no {node.tag.rpartition(':')[2][:40]}", node.start_mark
            ) from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        UserError: missing or empty file, invalid YAML (with its line), or not a mapping.
    """
    path = existing_file(path, "configuration")
    if path.stat().st_size > _LARGEST:
        raise UserError(f"{path}: more than {_LARGEST >> 20} MiB; is it a configuration?")
    try:
        content = _load(path.read_text(encoding="utf-8-sig"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise UserError(f"{path}:{line}: not valid YAML: {_first_line(error)}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: not valid YAML: {_first_line(error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected the sections model, training and dataset, found {shown(content)}")
    return content


def _load(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        yaml.YAMLError: it is not valid, or a few lines of it stand for more than any file of ours would hold.
        ValueError: a value that Python cannot read, such as a number of 5,000 digits.
    """
    loader = _StrictLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _length(node, {}) > _MOST_SETTINGS:
            raise yaml.YAMLError(
                f"with its aliases written out it has more than {_MOST_SETTINGS:,} characters"
            )
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    finally:
        loader.dispose()


def _length(node: yaml.Node, known: dict[int, int]) -> int:
    """Characters of a node with every alias in it written out; `known` are those of the nodes met before."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = _MOST_SETTINGS + 1  # while its parts are counted: an alias of a node inside that node
    if isinstance(node, yaml.ScalarNode):
        length = 1 + len(node.value)
    elif isinstance(node, yaml.MappingNode):
        length = 1 + sum(_length(part, known) for pair in node.value for part in pair)
    else:
        length = 1 + sum(_length(part, known) for part in node.value)
    known[id(node)] = length
    return length


def _first_line(error: Exception) -> str:
    """What is wrong, without the excerpt that PyYAML adds on further lines."""
    problem = error.problem if isinstance(error, yaml.MarkedYAMLError) else None
    return (problem or first_line(error))[:200]


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over` laid on it, section by section; neither is changed."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Turn `["model.K=2", ...]` of `--set` into nested sections; values are read as YAML.

    Raises:
        UserError: no `=`, or a key without its section.
    """
    sections: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        parts = key.strip().split(".")
        if not equals or len(parts) < 2 or not all(parts):
            raise UserError(f"--set {assignment}: write section.key=value, such as model.K=2")
        try:
            value = _load(text)
        except (yaml.YAMLError, ValueError) as error:
            raise UserError(
                f"--set {assignment}: the value is not valid YAML: {_first_line(error)}"
            ) from None
        sections = merge(sections, _nest(parts, value))
    return sections


def _nest(parts: Sequence[str], value: Any) -> dict[str, Any]:
    return {parts[0]: _nest(parts[1:], value) if len(parts) > 1 else value}


def load_config(
    path: str | Path, assignments: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> Config:
    """The configuration in `path`, filled from default.yml and overridden by `--set` and then by flags.

    Args:
        path: a YAML file with sections model, training, dataset.
        assignments: texts `section.key=value`.
        flags: nested sections from the script's own flags.

    Raises:
        UserError: an unknown key (with the nearest valid one), a wrong type, a contradiction.
    """
    own = read_yaml(path)
    over = merge(parse_assignments(assignments), flags or {})
    return build_config([(str(path), own), ("the command line", over)])


def build_config(layers: Sequence[tuple[str, Mapping[str, Any]]]) -> Config:
    """A `Config` from named layers of nested sections, the last one strongest, over default.yml."""
    content: dict[str, Any] = read_yaml(DEFAULTS)
    for _, layer in layers:
        content = merge(content, layer)
    try:
        config = Config.model_validate(_numbers(content, Config))
    except ValidationError as error:
        raise UserError(_explain(error, layers)) from None
    broken = config.contradictions()
    if broken:
        raise UserError(f"{layers[0][0] if layers else DEFAULTS}: {broken[0]}")
    return config


def _numbers(content: Any, section: type[BaseModel]) -> Any:
    """Mend what YAML 1.1 reads otherwise than people write: 1e-5 is a text there, and 1 an integer."""
    if not isinstance(content, Mapping):
        return content
    mended = {}
    for key, value in content.items():
        field = section.model_fields.get(key)
        kinds = _kinds(field.annotation) if field else set()
        sub = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if sub is not None:
            value = _numbers(value, sub)
        elif float in kinds and isinstance(value, (str, int)) and not isinstance(value, bool):
            with contextlib.suppress(ValueError, OverflowError):  # stays as it is, and is reported
                value = float(value)
        mended[key] = value
    return mended


def _kinds(annotation: Any) -> set[Any]:
    """The plain types inside an annotation such as Annotated[float, ...] | None."""
    args = get_args(annotation)
    return {annotation} if not args else set().union(*(_kinds(arg) for arg in args if not _is_value(arg)))


def _is_value(arg: Any) -> bool:
    return isinstance(arg, (str, int, float))


def _explain(error: ValidationError, layers: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """One line for the first fault, naming the key, where it was written, and the nearest valid key."""
    faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    fault = faults[0]
    path = [part for part in fault["loc"] if isinstance(part, str) and not _is_type_name(part)]
    key = ".".join(path)
    written = path[:-1] if fault["type"] == "missing" else path
    where = next((name for name, layer in reversed(layers) if _holds(layer, written)), str(DEFAULTS))
    if fault["type"] == "extra_forbidden":
        parent = _section_at(path[:-1])
        return f"{where}: unknown key {shown(key)}{nearest(path[-1], parent.model_fields)}"
    if fault["type"] == "missing":
        return f"{where}: '{key}' is missing"
    return f"{where}: {key} = {shown(fault['input'])}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _is_type_name(part: str) -> bool:
    """Pydantic puts the name of a union's member into the location; it is no key."""
    return "[" in part or part in {"int", "float", "str", "bool", "InitConfig"}


def _holds(layer: Mapping[str, Any], path: Sequence[str]) -> bool:
    node: Any = layer
    for part in path:
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return True


def _section_at(path: Sequence[str]) -> type[BaseModel]:
    section: type[BaseModel] = Config
    for part in path:
        kinds = _kinds(section.model_fields[part].annotation)
        section = next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel))
    return section


def dump_config(config: Config) -> str:
    """The whole resolved configuration as YAML text."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)


def config_from_authors(
    content: Mapping[str, Any], source: str, *over: tuple[str, Mapping[str, Any]]
) -> Config:
    """A `Config` from the settings that the authors' release saved with a checkpoint.

    Keys that the release wrote but never read are left out; such a run has fidelity released_code.

    Args:
        content: nested sections as saved.
        source: the file, for messages.
        over: named layers on top, such as the command line.

    Raises:
        UserError: a section that is no mapping; and as `load_config`.
    """
    sections: dict[str, Any] = {"model": {"fidelity": "released_code"}, "training": {}, "dataset": {}}
    for name in sections:
        saved = content.get(name) or {}
        if not isinstance(saved, Mapping):
            raise UserError(f"{source}: {name} = {shown(saved)}: a section with keys is needed")
        sections[name] |= _known_settings(saved, _section_at([name]))
    return build_config([(source, sections), *over])


def _known_settings(content: Mapping[str, Any], section: type[BaseModel]) -> dict[str, Any]:
    """The keys that this project has. A blank one counts as off, as it did in the release's conditions."""
    known: dict[str, Any] = {}
    for key, value in content.items():
        if key not in section.model_fields:
            continue
        kinds = _kinds(section.model_fields[key].annotation)
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is not None and isinstance(value, Mapping):
            known[key] = _known_settings(value, inner)
        elif not _is_blank(value):
            known[key] = value
        elif type(None) in kinds:
            known[key] = None
        elif bool in kinds and key != "selective_loss":  # the release switched this one off by `false` alone
            known[key] = False
    return known


def _is_blank(value: Any) -> bool:
    """The release's DotMap makes an empty mapping of every key that was asked for and not there."""
    return value is None or value == {}
