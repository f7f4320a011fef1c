"""A checkpoint of one number of ranks and one ZeRO stage is read at another, to the same bits."""

import os

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.conftest import config_for
from tests.helpers import logged
from tests.run_commands import Command, run_commands
from tests.trainer.test_resume import ds_file
from trainer.checkpoints import open_checkpoint

pytestmark = pytest.mark.slow  # several processes

ALL = [(name, ranks, "0123") for name in ("two", "one") for ranks in (1, 2, 3)]
LONG = os.environ.get("TESTS") == "long"
COMBINATIONS = ALL if LONG else [("two", 1, "03"), ("one", 2, "2")]
"""run, ranks and stages that read it"""
MODULE = ["-m", "tests.trainer.resumed_ranks"]


@pytest.fixture(scope="module")
def job(data, lm_folder, tmp_path_factory):
    """The folder of all, and how each command ended; run folders by name."""
    out = tmp_path_factory.mktemp("resumed")
    training = {
        "num_epochs": 1,
        "training_ratio": 0.6,
        "log_every": 1,
        "adding_noise": 0.1,
        "deterministic": True,
    }
    training |= {"warmup_type": "WarmupDecayLR", "warmup_ratio": 0.3}
    config = config_for(data, lm_folder("opt"), out / "runs", {"training": training})
    path = out / "config.yml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")

    def flags(name, stage):
        return [f"--config={path}", f"--log_dir={out / name}", f"--deepspeed_config={ds_file(out, stage)}"]

    ended = run_commands(
        [
            Command(["train.py", *flags("whole", 2)], ranks=2),
            Command([*MODULE, "stop", "1:4", *flags("two", 2)], ranks=2),
            Command([*MODULE, "stop", "0:4", *flags("one", 0)], ranks=1),
            *(
                Command(
                    [*MODULE, "rewrite", f"{out / name}-stopped", f"{out / name}-{ranks}", *stages],
                    ranks=ranks,
                )
                for name, ranks, stages in COMBINATIONS
            ),
            Command(
                ["train.py", f"--resume={out / 'two-again'}", f"--deepspeed_config={ds_file(out, 3)}"],
                ranks=2,
            ),
            Command(["train.py", f"--resume={out / 'one-again'}"], ranks=3 if LONG else 2),
        ],
        out / "commands",
    )
    runs = {"whole": next((out / "whole").iterdir()), "two": out / "two-again", "one": out / "one-again"}
    return out, runs, ended


def test_all_ranks_stop_at_one_step_and_say_how_to_go_on(job):
    """One rank that saves and ends alone leaves the others in a collective, and half of a checkpoint."""
    out, _, ended = job
    assert ended[0].status == 0, ended[0].output
    for each, name in zip(ended[1:3], ("two", "one"), strict=True):
        assert set(each.statuses) == {143}, each.output
        assert "Traceback" not in each.output
        (run,) = (out / name).iterdir()
        assert f"go on with --resume={run}" in each.output


def test_a_checkpoint_is_the_same_at_every_stage_and_rank_count(job, survived):
    """Moments that are rounded, padded or another parameter's: the training goes on, and learns something else."""
    out, _, ended = job
    for each, (name, ranks, stages) in zip(ended[3:], COMBINATIONS, strict=False):
        assert each.status == 0, each.output
        wanted, before = open_checkpoint(out / f"{name}-stopped")
        for stage in stages:
            found, progress = open_checkpoint(out / f"{name}-{ranks}" / stage)
            names = {key for key in wanted if not key.startswith("random/")}
            assert names == {key for key in found if not key.startswith("random/")}
            assert all(torch.equal(found[key], wanted[key]) for key in names), (name, ranks, stage)
            assert progress.updates == before.updates
            survived("ranks and ZeRO")


def test_two_ranks_go_on_as_if_never_stopped(job, survived):
    """Stopped at stage 2 and resumed at stage 3; the order of the sums differs, nothing else."""
    _, runs, ended = job
    assert ended[-2].status == 0, ended[-2].output
    whole, resumed = (load_file(runs[name] / "trained.safetensors") for name in ("whole", "two"))
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=1e-6)
    for phase in ("train", "train_epoch", "valid_epoch"):
        ours, theirs = logged(runs["two"], phase), logged(runs["whole"], phase)
        assert [row["step"] for row in ours] == [row["step"] for row in theirs]
        assert [row["total"] for row in ours] == pytest.approx([row["total"] for row in theirs], rel=1e-6)
        assert [row["examples"] for row in ours] == [row["examples"] for row in theirs]
    survived("ranks and ZeRO")


def test_another_number_of_ranks_sees_the_rest_of_the_epoch(job, survived):
    """Examples that come twice, or never, when a queue gives fewer devices, or more, than before."""
    _, runs, ended = job
    assert ended[-1].status == 0, ended[-1].output
    for phase in ("train_epoch", "valid_epoch"):
        (row,), (wanted,) = (logged(runs[name], phase) for name in ("one", "whole"))
        assert row["examples"] == wanted["examples"]
    survived("ranks and ZeRO")
