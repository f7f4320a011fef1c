"""The two commands as a user types them, on one process and on two."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from companions.lamp.encoder import load_encoder
from tests.companions.lamp.ropg.questions import ENCODER, write_files
from tests.helpers import logged
from tests.run_commands import Command, run_commands


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The run folders of trainings, by method and number of ranks."""
    folder = tmp_path_factory.mktemp("commands")
    files = write_files(folder, "train", 24, seed=0)
    wanted = [("rl", 1), ("rl", 2), ("kd", 1)]
    calls = []
    for method, ranks in wanted:
        words = f"""-m companions.lamp.ropg.train_{method} --task LaMP-4 --train_data {files["merged"]}
        --scores_path {files["scores"]} --model_path {ENCODER} --checkpoint_dir {folder} --name {method}{ranks}
        --per_gpu_batch_size {4 // ranks} --accumulation_steps 2 --epoch 2 --lr 1e-4""".split()
        calls.append(Command(words, ranks=ranks))
    runs = {}
    for key, done in zip(wanted, run_commands(calls, folder / "printed"), strict=True):
        assert done.status == 0, done.output
        (runs[key],) = map(Path, re.findall(r"run folder: (.*)", done.output))
    return runs


@pytest.mark.slow
def test_two_ranks_train_as_one(trained):
    """Items drawn by a rank's own generator, or a rank's share weighed wrongly, train another retriever."""
    one, two = trained["rl", 1], trained["rl", 2]
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
    run = trained["kd", 1]
    encoder = load_encoder(str(run))
    vectors, _ = encoder.embed(encoder.tokenize(["the harbour"]))
    assert vectors.isfinite().all()
    assert [row["step"] for row in logged(run, "train_epoch")] == [3, 6]
