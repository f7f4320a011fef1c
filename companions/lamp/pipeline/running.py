"""One call of the whole chain."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from companions.lamp.lm.evaluate import made_folder
from companions.lamp.loading import check_is_model
from companions.lamp.pipeline.commands import run_command
from companions.lamp.pipeline.plan import TABLE, names_of_models, steps_of
from companions.lamp.pipeline.settings import PipelineConfig
from companions.lamp.pipeline.steps import RECORD, run_steps
from companions.lamp.pipeline.table import TEXT
from utils.appending import take_lock
from utils.distributed import DistributedContext
from utils.errors import UserError, existing_file
from utils.files import write_errors
from utils.liveness import together

_LOCK = "lock"


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
    with together(distributed):
        if distributed.is_main and not (folder / TABLE / RECORD).exists():
            for key, name in names_of_models(config.models).items():
                check_is_model(f"models.{key}", name, f"--set models.{key}=FOLDER")
    with _alone(folder, distributed):
        run_steps(steps_of(config), folder, distributed, run_command)
        return (folder / TABLE / TEXT).read_text(encoding="utf-8")


@contextmanager
def _alone(folder: Path, distributed: DistributedContext) -> Iterator[None]:
    """No other call works in the folder: each would take the steps of the other for interrupted, and remove them.

    Raises:
        UserError: one does.
    """
    with ExitStack() as stack:
        with together(distributed):
            if distributed.is_main:
                path = made_folder(folder) / _LOCK
                with write_errors(path):
                    file = stack.enter_context(path.open("ab"))
                if not take_lock(file.fileno()):
                    raise UserError(
                        f"{folder}: another call is at work there; wait for it, or give another data.folder"
                    )
        yield
