"""`python -m models.describe`: docs/configuration.md, every key and every flag, from the code that reads them."""

import argparse
import importlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from models.arguments import train_parser
from models.decoding.arguments import chat_parser, decode_parser, evaluate_parser
from models.registry import MODEL_TYPES, model_type
from models.settings import Config
from utils.config.flags import Parser, shown_default
from utils.config.schema import flag_of, keys_of
from utils.errors import run_main
from utils.files import write_whole

PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
_LAYERS = """\
# Configuration

*Written by `make docs` from the code; changes belong there.*

A configuration is a YAML file with the sections `model`, `training`, `dataset`, `decoding` and `chat`. What a file
leaves out has its default. An unknown key, a key that the model type does not have, a wrong type or a contradiction
is an error that names the key, where it was written, and the nearest valid key. The whole configuration, defaults
included, is saved in the run folder as `config.yml`, which is a configuration file too.

From weak to strong:

1. the defaults below;
2. the file that the key `base` names, and its own base before it;
3. the file itself;
4. `--set section.key=value`, as often as wanted; values are read as YAML;
5. the script's other flags.

`base` is looked for beside the file that names it. So an ablation states what differs:

```yaml
base: ../convai2/opt-125m-selective-linear-both-prompt-causal-convai2.yml
training:
  selective_loss: false
```

`model.model_name` stands at `null` because there is no default LM: a type that has the key needs it.

test.py and the chat start from the run folder's `config.yml` instead of a file. A list, such as
`normalizer_on: [prompt, lm]`, is replaced as a whole; a section is not: its other keys stay.
"""
_FLAGS = """\
## Flags

A flag that sets a key leaves the configuration's value when it is left out. Yes-or-no flags take `yes` or `no`.
"""


def configuration_page() -> str:
    """The page as Markdown."""
    # a type from elsewhere has a page of its own
    names = [name for name, module in MODEL_TYPES.items() if module.startswith("models.")]
    classes = {name: model_type(name).config_class() for name in names}
    rows = {name: list(key_rows(config)) for name, config in classes.items()}
    shared, *others = rows.values()
    common = [row for row in shared if all(row in other for other in others)]
    parts = [
        _LAYERS,
        "## Keys\n",
        "### Every model type\n",
        table(("key", "default", "flag", "meaning"), common),
    ]
    for name in names:
        own = [row for row in rows[name] if row not in common]
        parts += [
            f"### `{name}`\n",
            f"{_summary(name)}\n",
            table(("key", "default", "flag", "meaning"), own),
        ]
    parts.append(_FLAGS)
    header = ("flag", "sets", "default", "meaning")
    parts += ["### train.py\n", table(header, _train_rows(classes))]
    for script, parser in (
        ("test.py", decode_parser()),
        ("interactive_test.py", chat_parser()),
        ("evaluate_runs_results.py", evaluate_parser()),
    ):
        parts += [f"### {script}\n", table(header, flag_rows(parser, classes["selective_pt"]))]
    return "\n".join(parts)


def key_rows(config: type[Config]) -> Iterator[tuple[str, ...]]:
    """The keys of a configuration, as rows of the page: key, default, flag, meaning."""
    for key, field in keys_of(config):
        flag = flag_of(field)
        default = "required" if field.is_required() else code(shown_default(field.default))
        yield code(key), default, code(f"--{flag.name}") if flag else "", field.description or ""


def _train_rows(classes: Mapping[str, type[Config]]) -> list[tuple[str, ...]]:
    """The flags of train.py for all types; those that only some have name these."""
    tables = {name: list(flag_rows(train_parser(config), config)) for name, config in classes.items()}
    found = []
    for row in dict.fromkeys(row for table in tables.values() for row in table):
        names = [name for name, table in tables.items() if row in table]
        only = "" if len(names) == len(tables) else f" ({', '.join(names)})"
        found.append((row[0], row[1] + only, *row[2:]))
    return found


def flag_rows(parser: Parser, config: type[Config]) -> Iterator[tuple[str, ...]]:
    """The flags of a parser, as rows of the page: flag, key that it sets, default, meaning.

    Args:
        parser: of a script.
        config: the configuration whose keys its flags set.
    """
    keys = dict(keys_of(config))
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        field = keys.get(action.dest)
        if field is not None:
            default, meaning = field.default, field.description or ""
        else:
            default, meaning = action.default, action.help or ""
        yield (
            ", ".join(map(code, action.option_strings)),
            code(action.dest) if field is not None else "",
            code(_flag_default(action, default)),
            meaning,
        )


def _flag_default(action: argparse.Action, default: Any) -> str:
    """The default as one would write it after the flag; nothing where leaving it out means something else."""
    if isinstance(default, bool):
        return "" if action.nargs == 0 else ("yes" if default else "no")
    return "" if default is None or default == [] else str(default)


def _summary(name: str) -> str:
    """The first line of the docstring of a type's module."""
    return (importlib.import_module(MODEL_TYPES[name]).__doc__ or "").partition("\n")[0]


def code(text: str) -> str:
    """A text as code in Markdown; nothing for nothing."""
    return f"`{text}`" if text else ""


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Rows as a table in Markdown."""
    lines = [header, ("---",) * len(header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def main() -> None:
    """Write the page."""
    write_whole(PAGE, configuration_page())
    print(f"written: {PAGE}")


if __name__ == "__main__":
    run_main(main)
