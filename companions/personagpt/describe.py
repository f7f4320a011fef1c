"""`python -m companions.personagpt.describe`: configuration.md, keys and flags from the code that reads them."""

from pathlib import Path

from companions.personagpt.arguments import interact_parser, learn_parser
from companions.personagpt.evaluate import evaluate_parser
from companions.personagpt.preprocess_dataset import preprocess_parser
from companions.personagpt.settings import PersonaConfig
from models.arguments import train_parser
from models.describe import flag_rows, key_rows, table
from models.settings import PlainConfig
from utils.errors import run_main
from utils.files import write_whole

PAGE = Path(__file__).resolve().parent / "configuration.md"
_HEAD = """\
# Configuration of PersonaGPT

*Written by `make docs` from the code; changes belong there.*

A configuration with `model.model_type: personagpt` has the keys that every model type has
([docs/configuration.md](../../docs/configuration.md), which also says how files, `--set` and flags are laid over one
another), and those below: its own, and those with another default or meaning.

## Keys
"""
_FLAGS = """\
## Flags

Each command is `python -m companions.personagpt.COMMAND`. A flag that sets a key leaves the configuration's value when
it is left out. Yes-or-no flags take `yes` or `no`. `train` takes `--config` several times: a run each, from the second
on with the LM of the run before; with `--resume` that run goes on first, and those of `--config` follow it.
"""


def configuration_page() -> str:
    """The page as Markdown."""
    common = set(key_rows(PlainConfig))
    own = [row for row in key_rows(PersonaConfig) if row not in common]
    parts = [_HEAD, table(("key", "default", "flag", "meaning"), own), _FLAGS]
    for command, parser in (
        ("preprocess_dataset", preprocess_parser()),
        ("train", train_parser(PersonaConfig)),
        ("evaluate", evaluate_parser()),
        ("interact", interact_parser()),
        ("learn", learn_parser()),
    ):
        rows = flag_rows(parser, PersonaConfig)
        parts += [f"### {command}\n", table(("flag", "sets", "default", "meaning"), rows)]
    return "\n".join(parts)


def main() -> None:
    """Write the page."""
    write_whole(PAGE, configuration_page())
    print(f"written: {PAGE}")


if __name__ == "__main__":
    run_main(main)
