"""The settings that the authors' release saved with a checkpoint, as a configuration of this project."""

from collections.abc import Mapping
from typing import Any

from models.configuration import build_config
from models.registry import model_type
from models.settings import Config
from utils.config.loading import Layer
from utils.config.schema import Section, plain_types, section_of
from utils.errors import UserError, shown

_RELEASED_TYPE = "selective_pt"


def config_from_authors(content: Mapping[str, Any], source: str, *over: Layer) -> Config:
    """A configuration from the settings that the authors' release saved with a checkpoint.

    Keys that the release wrote but never read are left out; such a run has fidelity released_code.

    Args:
        content: nested sections as saved.
        source: the file, for messages.
        over: named layers on top, such as the command line.

    Raises:
        UserError: a section that is no mapping; and as `build_config`.
    """
    sections: dict[str, Any] = {"model": {"fidelity": "released_code"}, "training": {}, "dataset": {}}
    fields = model_type(_RELEASED_TYPE).config_class().model_fields
    for name in sections:
        saved = content.get(name) or {}
        if not isinstance(saved, Mapping):
            raise UserError(f"{source}: {name} = {shown(saved)}: a section with keys is needed")
        section = section_of(fields[name])
        assert section is not None
        sections[name] |= _known_settings(saved, section)
    return build_config([(source, sections), *over])


def _known_settings(content: Mapping[str, Any], section: type[Section]) -> dict[str, Any]:
    """The keys that this project has. A blank one counts as off, as it did in the release's conditions."""
    known: dict[str, Any] = {}
    for key, value in content.items():
        field = section.model_fields.get(key)
        if field is None:
            continue
        kinds, inner = plain_types(field.annotation), section_of(field)
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
