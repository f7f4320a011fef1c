"""Check before hours are spent: `make doctor`, or `python -m utils.doctor --config=FILE` with the flags of train.py.

A script like train.py, above all floors, for all that it lies in utils/: nothing imports it. It parses and calls.
"""

from utils.console import quiet_libraries
from utils.errors import run_main


def main() -> int:
    """Print the report; 1 where something fails."""
    print("looking at this installation, and at a configuration where --config gives one", flush=True)
    quiet_libraries()
    from companions.personagpt import register_personagpt
    from trainer.doctor import examine

    register_personagpt()
    return examine()


if __name__ == "__main__":
    run_main(main)
