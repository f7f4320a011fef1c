"""A rank that fails or dies: the others end by themselves, with a line that names it."""

import signal

import pytest
import torch.distributed

from tests.run_commands import Command, run_commands
from utils import liveness
from utils.errors import UserError
from utils.liveness import PATIENCE, SHORT_PATIENCE, LivenessThread


class _Ended(Exception):
    """In the place of the end of the process."""


@pytest.fixture
def threads(monkeypatch):
    """threads(size): the liveness threads of all ranks on a store of their own; they look when they are told to."""
    stores = []

    def make(size):
        stores.append(torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False))
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(stores[-1].port))
        return [LivenessThread(rank, size) for rank in range(size)]

    def end(self, reason):
        raise _Ended(reason)

    monkeypatch.setattr(LivenessThread, "_end", end)
    monkeypatch.setattr(LivenessThread, "join", lambda self, timeout=None: None)  # no thread was started
    monkeypatch.setattr(liveness, "INTERVAL", 0.0)  # rank 0 waits for nobody
    return make


def _end_of(thread, looks=1):
    """What a thread says at the last of some looks, and says nothing of before."""
    for _ in range(looks - 1):
        assert thread._look()
    with pytest.raises(_Ended) as caught:
        thread._look()
    return str(caught.value)


def test_a_rank_that_lives_is_left_alone(threads):
    """A thread that ends a healthy job costs more than the wait that it saves."""
    first, second = threads(2)
    for _ in range(3 * PATIENCE):
        assert first._look()
        assert second._look()


def test_a_silent_rank_is_named(threads):
    """A rank that the system killed cannot say so: its number stands still."""
    first, second = threads(2)
    assert second._look()
    assert "rank 1 is gone without a word" in _end_of(first, PATIENCE + 1)


def test_after_a_failed_collective_the_patience_is_short(threads):
    """The connection is broken already: nothing but the name of the dead rank is missing."""
    first, _, third = threads(3)
    first.store.set("suspicion", "")
    assert third._look()
    reason = _end_of(first, SHORT_PATIENCE + 1)
    assert "rank 1 is gone" in reason
    assert _end_of(third) == reason


def test_what_a_rank_failed_of_is_told_to_the_others(threads):
    """The others only see a connection that is closed, and their tracebacks hide the cause."""
    first, second = threads(2)
    second.fail(KeyError("speed"))
    assert _end_of(first) == "rank 1 failed: KeyError: 'speed'"
    first.fail(UserError("later"))
    assert _end_of(first) == "rank 1 failed: KeyError: 'speed'"


def test_a_rank_that_is_done_is_not_missed(threads):
    """Ranks end at different times; the last one may not be ended because the others are done."""
    first, second, third = threads(3)
    second.leave()
    assert first._look()
    assert "rank 2 is gone" in _end_of(first, PATIENCE)  # the next one that has not left
    third.leave()
    assert not threads(2)[0].store.check(["left/1"])  # another job's store


def test_nobody_left_to_look_at(threads):
    """Rank 0 has the store and leaves last; were it to wait for ever, a job would never end."""
    first, second = threads(2)
    second.leave()
    assert not first._look()


@pytest.fixture(scope="module")
def jobs(data, lm_folder, tmp_path_factory):
    """How jobs of two ranks ended, by what became of which rank."""
    settings = {
        "model.model_name": lm_folder("opt"),
        "dataset.train": data["train"],
        "dataset.valid": data["valid"],
        "training.log_every": 1,
    }
    training = ["--config=config/sample/spt.yml", "--epoch=100000", "--batch=2", "--save_model=no"]
    training += [text for key, value in settings.items() for text in ("--set", f"{key}={value}")]
    calls = {("lost", 1): ["-m", "tests.lost_rank"]}
    for rank in (0, 1):
        log_dir = f"--log_dir={tmp_path_factory.mktemp('runs')}"
        calls["killed", rank] = ["-m", "tests.killed_rank", *training, log_dir, str(rank)]
        calls["alone", rank] = ["-m", "tests.absent_rank", str(rank)]
    commands = [Command(words, ranks=2) for words in calls.values()]
    return dict(zip(calls, run_commands(commands, tmp_path_factory.mktemp("jobs")), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_killed_in_training_ends_the_other(jobs, victim):
    """Out of memory on one rank: the others kept their GPUs for half an hour, or ended in a traceback."""
    done, other = jobs["killed", victim], 1 - victim
    assert (done.statuses[victim], done.statuses[other]) == (-signal.SIGKILL, 1), done.output
    said = done.outputs[other]
    assert f"error: rank {victim} is gone" in said
    assert said.rstrip().endswith(f"; rank {other} ends too")
    assert "Traceback" not in said
    assert "frame #" not in said


@pytest.mark.slow
def test_a_rank_that_leaves_by_an_exception_ends_one_that_waits_for_it(jobs):
    """A rank that hangs after its error, as with work on a GPU, keeps its connections: nothing would break."""
    done = jobs["lost", 1]
    assert done.statuses == [1, 0], done.output
    assert done.outputs[0].strip() == "error: rank 1 failed: KeyError: 'speed'; rank 0 ends too"
    assert done.outputs[1].strip() == "rank 1 saw rank 0 end"


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_never_joins_is_not_waited_for(jobs, rank):
    """One that fails on its arguments is gone before anybody watches it: the others waited half an hour."""
    done = jobs["alone", rank]
    assert done.statuses[rank] == 1, done.output
    assert f"error: rank {rank}: not all of 2 ranks joined within" in done.outputs[rank]
    assert "Traceback" not in done.outputs[rank]
