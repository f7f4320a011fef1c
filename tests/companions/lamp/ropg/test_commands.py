"""The two commands as a user types them, on one process and on two."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.companions.lamp.ropg.questions import ENCODER, write_files
from tests.helpers import launch, logged


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """trained(method, ranks): the run folder of a training."""
    folder = tmp_path_factory.mktemp("commands")
    files = write_files(folder, "train", 24, seed=0)

    def run(method, ranks):
        arguments = f"""--module companions.lamp.ropg.train_{method} --task LaMP-4 --train_data {files["merged"]}
        --scores_path {files["scores"]} --model_path {ENCODER} --checkpoint_dir {folder} --name {method}{ranks}
        --per_gpu_batch_size {4 // ranks} --accumulation_steps 2 --epoch 2 --lr 1e-4""".split()
        done = launch("deepspeed", f"--num_gpus={ranks}", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return Path(re.search(r"run folder: (.*)", done.stdout)[1])

    return run


@pytest.mark.slow
@pytest.mark.parametrize("method", ["kd", "rl"])
def test_two_ranks_train_as_one(trained, method):
    """Items drawn by a rank's own generator, or a rank's share weighed wrongly, train another retriever."""
    one, two = trained(method, 1), trained(method, 2)
    for phase in ("train_epoch", "valid_epoch"):
        for mine, other in zip(logged(one, phase), logged(two, phase), strict=True):
            assert mine["examples"] == other["examples"] == 24
            assert mine["total"] == pytest.approx(other["total"], rel=1e-4, abs=1e-5)
            assert mine["utility"] == pytest.approx(other["utility"])
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (one, two))
    for name, value in ours.items():
        if not name.endswith("key.bias"):  # its gradient is 0 but for rounding, which Adam makes large
            torch.testing.assert_close(value, theirs[name], atol=2e-6, rtol=0)
