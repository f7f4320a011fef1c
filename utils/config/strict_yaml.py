"""YAML read strictly: a safe loader that also refuses duplicate keys, keys that are not text, and YAML bombs."""

from pathlib import Path
from typing import Any

import yaml

from utils.errors import UserError, existing_file, first_line, shown

_LINE_FEED = "\n"
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
        """As PyYAML; its own readers of scalars fail in many ways: of `!!bool x`, a date that is none, 5,000 digits."""
        try:
            return super().construct_object(node, deep=deep)
        except (KeyError, IndexError, AttributeError, OverflowError, ValueError) as error:
            fault = f"{shown(node.value)} is no {node.tag.rpartition(':')[2][:40]}"
            if type(error) is ValueError:  # which says more: a month, a number of digits
                fault = first_line(error)
            raise yaml.constructor.ConstructorError(None, None, fault, node.start_mark) from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        UserError: missing or empty file, invalid YAML (with its line), or not a mapping.
    """
    path = existing_file(path, "configuration", _LARGEST)
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not valid YAML: not UTF-8 text") from None
    try:
        content = load_yaml(text)
    except yaml.YAMLError as error:
        place = _place(error)
        # by line feeds, as editors count: to YAML a line may end in other ways
        where = path if place is None else f"{path}:{1 + text.count(_LINE_FEED, 0, place)}"
        raise UserError(f"{where}: not valid YAML: {yaml_fault(error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected sections with keys, found {shown(content)}")
    return content


def load_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        yaml.YAMLError: it is not valid, or a few lines of it stand for more than any file of ours would hold.
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
        raise yaml.MarkedYAMLError(
            problem="it is nested too deeply", problem_mark=loader.get_mark()
        ) from None
    finally:
        loader.dispose()


def _length(node: yaml.Node, known: dict[int, int]) -> int:
    """Characters of a node with every alias in it written out; `known` are those of the nodes met before."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = _MOST_SETTINGS + 1  # while its parts are counted: an alias of a node inside that node
    if isinstance(node, yaml.ScalarNode):
        if "\0" in node.value:  # as "\0" in quotes; the system's functions fail in many ways on such a path
            raise yaml.YAMLError("a text holds a null character")
        length = 1 + len(node.value)
    elif isinstance(node, yaml.MappingNode):
        length = 1 + sum(_length(part, known) for pair in node.value for part in pair)
    else:
        length = 1 + sum(_length(part, known) for part in node.value)
    known[id(node)] = length
    return length


def _place(error: yaml.YAMLError) -> int | None:
    """Where in the text a fault is, in characters; None where it is no place's."""
    if isinstance(error, yaml.reader.ReaderError):
        return int(error.position)
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    return None if mark is None else int(mark.index)


def yaml_fault(error: Exception) -> str:
    """What is wrong, without the excerpt that PyYAML adds on further lines."""
    problem = error.problem if isinstance(error, yaml.MarkedYAMLError) else None
    return (problem or first_line(error))[:200]
