"""A training that is killed and goes on, beside one that was never stopped; for the tests of every companion."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers import json_rows
from trainer.checkpoints import open_checkpoint
from trainer.loop import Trainer

SETTINGS = {"log_every": 1, "save_steps": 2, "deterministic": True}
"""of the training: what is done between two saves is lost with a kill"""


class Killed(BaseException):
    """Stands for SIGKILL in this process: nothing is saved on the way out."""


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


def assert_same_runs(one: Path, other: Path) -> None:
    """The same weights, optimiser, random states, progress and rows, bit for bit."""
    weights = sorted(str(path.relative_to(one)) for path in one.rglob("*.safetensors"))
    assert weights == sorted(str(path.relative_to(other)) for path in other.rglob("*.safetensors"))
    assert any(not path.startswith("ds_ckpt") for path in weights), "the best weights are kept"
    for path in weights:
        found, wanted = load_file(one / path), load_file(other / path)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in found), path
    progress = [open_checkpoint(run)[1].model_dump(exclude={"logs"}) for run in (one, other)]
    assert progress[0] == progress[1]
    rows = [json_rows(run / "metrics.jsonl") for run in (one, other)]
    for row in rows[0] + rows[1]:
        row.pop("examples_per_second", None)
    assert rows[0] == rows[1]
