"""From a plan to its tables."""

from pathlib import Path

from trainer.results.figures import figures_of
from trainer.results.jobs import Layout, jobs_of
from trainer.results.plan import Plan
from trainer.results.running import Running
from trainer.results.splitting import split_dialogues
from trainer.results.tables import tables_of, update_page
from utils.files import to_json, write_together

FIGURES, TABLES = "results.json", "results.md"


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
    if run:
        split_dialogues(Path(plan.data.train), plan.data.held_out, layout.train, layout.held_out)
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
