"""From a plan to its tables."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.results.figures import figures_of
from trainer.results.jobs import Layout, jobs_of
from trainer.results.plan import Plan
from trainer.results.running import Running
from trainer.results.splitting import split_dialogues
from trainer.results.tables import tables_of, update_page
from trainer.results.unchanged import check_unchanged
from utils.appending import take_lock
from utils.errors import UserError, existing_file
from utils.files import file_sha256, to_json, write_errors, write_together, write_whole
from utils.untrusted import LARGEST_TEXT

FIGURES, TABLES = "results.json", "results.md"
_LOCK = "lock"


def make_results(plan: Plan, workers: int, page: Path | None = None, run: bool = True) -> None:
    """Do what a plan asks for and is not done yet, and write its figures and tables.

    Args:
        plan: the methods, and what they are compared on.
        workers: jobs at once.
        page: a page of Markdown whose tables are brought up to date, with the figures as JSON beside it.
        run: False: only what is done already is shown.

    Raises:
        UserError: a file cannot be read or written, or a command failed.
    """
    layout = Layout(plan)
    if page is not None:
        existing_file(page, "page", LARGEST_TEXT)
    check_unchanged(layout)
    if run:
        with _alone(layout.root):
            split_dialogues(Path(plan.data.train), plan.data.held_out, layout.train, layout.held_out)
            _check_validation(plan.data.valid, layout.root / "data" / "valid.sha256")
            Running(jobs_of(layout), layout.root, workers).run()
    figures = figures_of(layout)
    tables = tables_of(figures)
    text = "\n".join(f"## {name}\n\n{table}" for name, table in tables.items())
    json_text = to_json(figures, indent=1) + "\n"
    write_together(layout.root, {FIGURES: json_text, TABLES: text})
    if page is not None:
        update_page(page, tables)
        write_together(page.parent, {page.with_suffix(".json").name: json_text})
    print(f"{text}\nwritten: {FIGURES} and {TABLES} in {layout.root}")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other call works in the folder: two would train in the same run folders at once.

    Raises:
        UserError: one does.
    """
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / _LOCK).open("ab")
    with file:
        if not take_lock(file.fileno()):
            raise UserError(
                f"{folder}: another call is at work there; wait for it, or give another data.folder"
            )
        yield


def _check_validation(valid: str, path: Path) -> None:
    """The dialogues that figures are computed on are those of the earlier calls."""
    found = file_sha256(valid)
    if path.exists() and path.read_text(encoding="utf-8").strip() != found:
        raise UserError(f"{valid}: earlier results rest on other dialogues; choose another data.folder")
    write_whole(path, f"{found}\n")
