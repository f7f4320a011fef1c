"""Prepared files of a configuration's data: read, reported on, and written together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from companions.personagpt import NAME
from companions.personagpt.action_data import encode_actions, read_action_examples
from companions.personagpt.action_files import pairs_text
from companions.personagpt.dialogues import persona_examples
from companions.personagpt.prepared import is_prepared, prepare, prepared_text
from companions.personagpt.prompts import PersonaEncoder
from companions.personagpt.settings import PersonaConfig
from companions.personagpt.tokens import make_tokenizer
from dataset.encoding import EncodedExample
from models.configuration import build_config, config_layers, type_name
from utils.config.loading import COMMAND_LINE, parse_assignments
from utils.errors import UserError
from utils.files import write_errors, write_together

TRAIN, VALID, ACTIVE = "train_data.jsonl", "valid_data.jsonl", "active_data.jsonl"


BASE_LM = "microsoft/DialoGPT-medium"
"""of the published model"""


def preprocess_config(
    path: str | None, assignments: Sequence[str], files: Mapping[str, str | None]
) -> PersonaConfig:
    """The configuration that data is prepared under.

    Args:
        path: a configuration file; None for PersonaGPT's defaults.
        assignments: texts `section.key=value`, stronger than the file.
        files: keys of `dataset`, stronger still; None leaves a key as it is.

    Raises:
        UserError: what is wrong with the configuration, or it is one of another model type.
    """
    defaults = {"model": {"model_type": NAME, "model_name": BASE_LM}}
    layers = config_layers(path) if path else [("PersonaGPT's defaults", defaults)]
    given = {key: value for key, value in files.items() if value is not None}
    flags = [(COMMAND_LINE, parse_assignments(assignments)), (COMMAND_LINE, {"dataset": given})]
    if (name := type_name([*layers, *flags])) != NAME:
        raise UserError(f"{path or COMMAND_LINE}: model.model_type = '{name}': '{NAME}' is needed")
    return cast(PersonaConfig, build_config([*layers, *flags]))


def preprocess(config: PersonaConfig, out: Path) -> list[str]:
    """Write the prepared files of `dataset.train` and `dataset.valid`, and `dataset.actions` as JSON lines.

    Args:
        config: which files, and how they are read.
        out: folder for the prepared files; made where it is not there.

    Returns:
        A line about each file.

    Raises:
        UserError: what is wrong with a file, by line, and nothing is written; or a file cannot be written.
    """
    encoder = None
    contents: dict[str, str] = {}
    report = []
    if Path(config.model.model_name or "").is_dir():
        encoder = PersonaEncoder(make_tokenizer(config.model), config)
    else:
        lm = config.model.model_name
        report.append(f"length in tokens not counted: {lm} is no folder to take the tokenizer from")
    for name, path in ((TRAIN, config.dataset.train), (VALID, config.dataset.valid)):
        if is_prepared(path):
            raise UserError(f"{path}: the file is prepared already")
        dialogues, counts = prepare(path, config)
        contents[name] = prepared_text(dialogues, config)
        encoded = encoder.encode(persona_examples(dialogues), with_response=True) if encoder else []
        report.append(f"{name}: {counts}{_longest(encoded)}")
    if config.dataset.actions:
        actions = read_action_examples(config.dataset.actions, config)
        contents[ACTIVE] = pairs_text(example.texts for example in actions)
        goals = {example.goal for example in actions if example.goal}
        encoded = encode_actions(actions, encoder) if encoder else []
        report.append(f"{ACTIVE}: {len(actions)} examples of {len(goals)} goals{_longest(encoded)}")
    with write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    write_together(out, contents)
    return report


def _longest(encoded: list[EncodedExample]) -> str:
    return f", the longest of {max(len(example.ids) for example in encoded)} tokens" if encoded else ""
