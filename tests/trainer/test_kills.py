"""Trainings that are killed with SIGKILL, in steps, in saves, in validations, and go on: to the same bits."""

import random
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.kills import Moment, run_job, run_killed
from tests.trainer.killed_training import train_run
from tests.trainer.test_resume import assert_equal_runs, ds_file

pytestmark = pytest.mark.slow  # processes of their own

IN_A_SAVE = [
    Moment("trainer.checkpoints:get_float32", 2),  # in the middle of the file
    Moment("utils.files:flush_to_disk", 3),
    Moment("trainer.checkpoints:write_whole", 1),
    Moment("trainer.checkpoints:write_whole", 1, after=True),  # the file is there, the mark is not moved
    Moment("trainer.checkpoints:write_whole", 2, after=True),
    Moment("trainer.checkpoints:_remove_unmarked", 2),
    Moment("trainer.loop:save_trained", 1),
    Moment("trainer.loop:save_trained", 1, after=True),
    Moment("os:replace", 2),
    Moment("os:replace", 3, after=True),
]
ELSEWHERE = [
    Moment("deepspeed.runtime.engine:DeepSpeedEngine.step", 1),
    Moment("deepspeed.runtime.engine:DeepSpeedEngine.step", 3, after=True),
    Moment("trainer.logs:RunLog.write", 2),
    Moment("trainer.logs:RunLog.write", 1, after=True),
    Moment("trainer.validation:FileOutputs.add", 2),
    Moment("trainer.loop:Trainer._validate", 1),
    Moment("trainer.logs:RunLog.lengths", 1),
]


@pytest.fixture
def sections(make_config):
    """A configuration of two epochs of 11 steps, with noise: random states matter."""
    training = {
        "num_epochs": 2,
        "training_ratio": 0.5,
        "save_steps": 3,
        "log_every": 2,
        "deterministic": True,
        "adding_noise": 0.1,
    }
    return make_config(training=training).model_dump()


@pytest.fixture
def runs(sections, tmp_path):
    """runs(moments): the folder of a training that is ended at each moment in turn; and how often it was."""

    def make(moments):
        log_dir = tmp_path / f"runs{len(moments)}"
        wanted = {**sections, "training": {**sections["training"], "log_dir": str(log_dir)}}
        job = partial(train_run, wanted, ds_file(tmp_path, 0))
        folder, survived = None, 0
        for moment in moments:
            ending = run_killed(partial(job, folder), moment, "forkserver")
            assert "Traceback" not in ending.printed, ending.printed
            expected = {-signal.SIGKILL, 143, 0}  # 0: it ended before the moment came
            assert ending.status in expected, (moment, ending)
            survived += ending.status != 0
            folder = next((str(run) for run in log_dir.glob("run_*")), None)
        run_job(partial(job, folder), "forkserver")
        (run,) = log_dir.glob("run_*")
        return run, survived

    return make


def test_a_few_kills(runs, survived):
    """A checkpoint that is half of one step and half of another, or a row that is missing or there twice."""
    whole, _ = runs([])
    moments = [
        Moment("deepspeed.runtime.engine:DeepSpeedEngine.step", 5, after=True),
        IN_A_SAVE[0],
        Moment("trainer.validation:FileOutputs.add", 3),
    ]
    run, kills = runs(moments)
    assert kills == 3
    assert_without_paths(run, whole)
    survived("kills", kills)


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_many_kills(runs, survived, seed):
    """What three kills did not meet: 17 moments in an order of their own, each in the run that the last one left."""
    whole, _ = runs([])
    moments = [*IN_A_SAVE, *ELSEWHERE]
    random.Random(seed).shuffle(moments)
    run, kills = runs(moments)
    assert kills >= 8  # the rest come after its end
    assert_without_paths(run, whole)
    survived("kills", kills)


def test_sigterm_saves_at_the_next_step(runs, sections, tmp_path, survived):
    """A queue's time limit, or a machine that is taken back, would cost all steps since the last save."""
    whole, _ = runs([])
    moments = [
        Moment("deepspeed.runtime.engine:DeepSpeedEngine.step", 2, signal=signal.SIGTERM),
        Moment("trainer.validation:FileOutputs.add", 2, signal=signal.SIGTERM),
    ]
    run, ended = runs(moments)
    assert ended == 2
    assert_without_paths(run, whole)
    survived("kills", ended)


def assert_without_paths(run: Path, whole: Path) -> None:
    """Equal runs in folders of different names."""
    assert_equal_runs(run, whole)
