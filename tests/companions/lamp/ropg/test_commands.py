"""The two commands as a user types them, on one process and on two."""

import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from companions.lamp.encoder import load_encoder
from tests.companions.lamp.ropg.questions import ENCODER, write_files
from tests.helpers import launch, logged


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """trained(method, ranks, *command): the run folder of a training that `command` starts."""
    folder = tmp_path_factory.mktemp("commands")
    files = write_files(folder, "train", 24, seed=0)

    def run(method, ranks, *command):
        arguments = f"""companions.lamp.ropg.train_{method} --task LaMP-4 --train_data {files["merged"]}
        --scores_path {files["scores"]} --model_path {ENCODER} --checkpoint_dir {folder} --name {method}{ranks}
        --per_gpu_batch_size {4 // ranks} --accumulation_steps 2 --epoch 2 --lr 1e-4""".split()
        done = launch(*command, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return Path(re.search(r"run folder: (.*)", done.stdout)[1])

    return run


@pytest.mark.slow
def test_two_ranks_train_as_one(trained):
    """Items drawn by a rank's own generator, or a rank's share weighed wrongly, train another retriever."""
    one = trained("rl", 1, sys.executable, "-m")
    two = trained("rl", 2, "deepspeed", "--num_gpus=2", "--module")
    for phase in ("train_epoch", "valid_epoch"):
        for mine, other in zip(logged(one, phase), logged(two, phase), strict=True):
            assert mine["examples"] == other["examples"] == 24
            assert mine["total"] == pytest.approx(other["total"], rel=1e-4, abs=1e-5)
            assert mine["utility"] == pytest.approx(other["utility"])
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (one, two))
    for name, value in ours.items():
        if not name.endswith("key.bias"):  # its gradient is 0 but for rounding, which Adam makes large
            torch.testing.assert_close(value, theirs[name], atol=1e-5, rtol=0)


@pytest.mark.slow
def test_distillation_leaves_an_encoder(trained):
    """A command that ends well without the folder that the ranking is to read."""
    run = trained("kd", 1, sys.executable, "-m")
    encoder = load_encoder(str(run))
    vectors, _ = encoder.embed(encoder.tokenize(["the harbour"]))
    assert vectors.isfinite().all()
    assert [row["step"] for row in logged(run, "train_epoch")] == [3, 6]
