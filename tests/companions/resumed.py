"""A training that is killed and goes on, beside one that was never stopped; for the tests of every companion."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.trainer.test_resume import Killed
from trainer.loop import Trainer

SETTINGS = {"log_every": 1, "save_steps": 2, "deterministic": True}
"""of the training: what is done between two saves is lost with a kill"""


@contextmanager
def killed(after: int, run: str = "") -> Iterator[None]:
    """What is trained here is killed after so many optimiser steps, in a run folder whose name begins so."""
    save_if_due = Trainer._save_if_due

    def killing(trainer: Trainer) -> None:
        if trainer.steps == after and trainer.folder.name.startswith(run):
            raise Killed
        save_if_due(trainer)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "_save_if_due", killing)
        with pytest.raises(Killed):
            yield


def whole_and_resumed(
    start: Callable[[], Path], go_on: Callable[[str], Path], kill_after: int, log_dir: Path
) -> list[Path]:
    """The run folders of a training that was never stopped, and of one that was.

    Args:
        start: trains from the beginning.
        go_on: goes on with the training of a run folder, which it returns.
        kill_after: optimiser steps until the kill.
        log_dir: where the run folders are.
    """
    whole = start()
    with killed(kill_after):
        start()
    (begun,) = (run for run in log_dir.iterdir() if run != whole)
    assert go_on(str(begun)) == begun
    return [whole, begun]
