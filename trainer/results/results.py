"""From a plan to its tables."""

from pathlib import Path

from trainer.results.jobs import Layout, jobs_of
from trainer.results.plan import Plan
from trainer.results.running import Running
from trainer.results.splitting import split_dialogues


def make_results(plan: Plan, config_folder: Path, workers: int) -> None:
    """Do what a plan asks for and is not done yet, and write its tables.

    Args:
        plan: the methods, and what they are compared on.
        config_folder: where the configurations of the methods lie.
        workers: jobs at once.

    Raises:
        UserError: a file cannot be read or written, or a command failed.
    """
    layout = Layout(plan, config_folder)
    split_dialogues(Path(plan.data.train), plan.data.held_out, layout.train, layout.held_out)
    Running(jobs_of(layout), layout.root, workers).run()
