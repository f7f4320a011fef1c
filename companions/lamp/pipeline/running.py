"""One call of the whole chain."""

from pathlib import Path

from companions.lamp.pipeline.commands import run_command
from companions.lamp.pipeline.plan import TABLE, steps_of
from companions.lamp.pipeline.settings import PipelineConfig
from companions.lamp.pipeline.steps import run_steps
from companions.lamp.pipeline.table import TEXT
from utils.distributed import DistributedContext
from utils.errors import existing_file


def run_pipeline(config: PipelineConfig, distributed: DistributedContext) -> str:
    """Make whatever does not stand yet, and return the table.

    Args:
        config: the whole configuration.
        distributed: the processes; all of them call this.

    Raises:
        UserError: whatever a step has to say.
    """
    data, folder = config.data, Path(config.data.folder)
    for path in (data.train_questions, data.dev_questions, data.train_outputs, data.dev_outputs):
        existing_file(path, "file of questions or outputs")
    run_steps(steps_of(config), folder, distributed, run_command)
    return (folder / TABLE / TEXT).read_text(encoding="utf-8")
