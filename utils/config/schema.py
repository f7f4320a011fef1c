"""Sections of a configuration: typed, strict and frozen.

A section is declared beside the component that it configures: each key once, with its type, default and meaning
(the docstring under it), its command-line flag where it has one, and the rules that values must keep together.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import get_annotations
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, Strict, create_model
from pydantic.fields import FieldInfo

Positive = Annotated[int, Field(ge=1, lt=2**31)]
NonNegative = Annotated[float, Field(ge=0)]
Temperature = Annotated[float, Field(gt=0)]
Item = TypeVar("Item")
AnySection = TypeVar("AnySection", bound="Section")
Several = Annotated[tuple[Item, ...], Strict(False)]
"""A list in YAML; a tuple, which cannot change, in the section."""


@dataclass(frozen=True, slots=True)
class Flag:
    """The command-line flag of a key: `learning_rate: Annotated[float, Flag("lr", "LR")]` is `--lr`."""

    name: str
    label: str | None = None
    """what the run's name calls it when the command line gives it; None leaves it out"""
    short: tuple[str, ...] = ()
    """further spellings, such as "-k"; whole, with their hyphens"""


class Section(BaseModel):
    """Base of every section: no unknown keys, no silent conversion of types, no changes once it is made."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def rules(self) -> list[tuple[bool, str]]:
        """Values of this class that cannot hold together: whether they do, and a sentence that names the keys.

        A class states its own rules only; `contradictions` asks each of the classes that a section is composed of.
        """
        return []

    def contradictions(self) -> list[str]:
        """The sentences of all broken rules, those of inner sections after its own."""
        kinds = [kind for kind in type(self).__mro__ if issubclass(kind, Section) and "rules" in vars(kind)]
        broken = [sentence for kind in kinds for is_broken, sentence in kind.rules(self) if is_broken]
        inner = [value for _, value in self if isinstance(value, Section)]
        return broken + [sentence for section in inner for sentence in section.contradictions()]

    def replaced(self: AnySection, changes: Mapping[str, Any]) -> AnySection:
        """A copy with other values, `{"section": {"key": 16}}`; types are checked, rules are not."""
        return type(self).model_validate(merge(self.model_dump(), changes))


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over` laid on it, section by section; neither is changed."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """`{"training.seed": 1}` as `{"training": {"seed": 1}}`."""
    sections: dict[str, Any] = {}
    for key, value in values.items():
        *path, last = key.split(".")
        inner = sections
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return sections


def composed(name: str, parts: Sequence[type[Section]]) -> type[Section]:
    """One section with the keys of several, the first of them first; a part that another one extends adds nothing.

    Raises:
        TypeError: two parts declare one key, of which one would be ignored in silence.
    """
    first, *others = dict.fromkeys(parts)
    further = [
        part
        for part in others
        if not any(other is not part and issubclass(other, part) for other in (first, *others))
    ]
    if not further:
        return first
    declared: dict[str, type[Section]] = {}
    for part in (first, *further):
        for key in part.model_fields:
            here = _declares(part, key)
            before = declared.setdefault(key, here)
            if before is not here:
                raise TypeError(f"{name}: {before.__name__} and {here.__name__} both declare the key '{key}'")
    # pydantic puts the keys of the last base first
    return create_model(name, __base__=(*reversed(further), first))


def _declares(section: type[Section], key: str) -> type[Section]:
    """The class, this one or one that it extends, that a key was written in."""
    return next(kind for kind in section.__mro__ if key in get_annotations(kind))


def section_of(field: FieldInfo) -> type[Section] | None:
    """The section that a key holds, or None where it holds a value."""
    kinds = plain_types(field.annotation)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)


def plain_types(annotation: Any) -> set[Any]:
    """The plain types inside an annotation such as Annotated[float, ...] | None."""
    args = get_args(annotation)
    if not args:
        return {annotation}
    return set().union(*(plain_types(arg) for arg in args if not isinstance(arg, (str, int, float))))


def words_of(annotation: Any) -> list[Any]:
    """The values that the Literals inside an annotation allow."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [word for arg in get_args(annotation) for word in words_of(arg)]


def keys_of(section: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key of a section and of those inside it, as `section.key`, with its field."""
    for key, field in section.model_fields.items():
        inner = section_of(field)
        if inner is None:
            yield prefix + key, field
        else:
            yield from keys_of(inner, f"{prefix}{key}.")


def flag_of(field: FieldInfo) -> Flag | None:
    """The command-line flag of a key, where it has one."""
    return next((part for part in field.metadata if isinstance(part, Flag)), None)
