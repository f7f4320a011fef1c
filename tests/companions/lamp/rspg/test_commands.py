"""The commands as a user types them, on one process and on two."""

import json
import re
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.companions.lamp.rspg.data import SMALL, write_rows
from tests.helpers import launch, logged
from tests.run_commands import Command, run_commands


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The run folders of a training with predictions, 13 of them, on one rank and on two."""
    folder = tmp_path_factory.mktemp("commands")
    files = {name: write_rows(folder, name, count, count) for name, count in (("train", 24), ("valid", 13))}
    calls = []
    for ranks in (1, 2):
        words = f"""-m companions.lamp.rspg.rspg --task LaMP-4 --rspg_type Post --do_train --do_validation
        --train_data {files["train"]} --val_data {files["valid"]} --model_path {SMALL} --checkpoint_dir {folder}
        --name post{ranks} --per_gpu_batch_size {4 // ranks} --accumulation_steps 2 --epoch 2 --lr 1e-4
        --max_length_input 40""".split()
        calls.append(Command(words, ranks=ranks))
    runs = []
    for done in run_commands(calls, folder / "printed"):
        assert done.status == 0, done.output
        runs += map(Path, re.findall(r"run folder: (.*)", done.output))
    return runs


@pytest.mark.slow
@pytest.mark.long
def test_two_ranks_train_and_predict_as_one(trained):
    """Shares of ranks that are put together in another order give each question another one's prediction."""
    one, two = trained
    for phase in ("train_epoch", "valid_epoch"):
        for mine, other in zip(logged(one, phase), logged(two, phase), strict=True):
            assert mine["examples"] == other["examples"] == {"train_epoch": 24, "valid_epoch": 13}[phase]
            assert mine["total"] == pytest.approx(other["total"], rel=1e-4, abs=1e-5)
    assert logged(one, "valid_epoch")[0]["rouge-1"] == pytest.approx(logged(two, "valid_epoch")[0]["rouge-1"])
    first, second = (
        [
            (run / "predictions" / name).read_text(encoding="utf-8")
            for name in ("final_preds.json", "metrics.json")
        ]
        for run in (one, two)
    )
    assert first[0] == second[0]
    mine, other = json.loads(first[1]), json.loads(second[1])
    assert mine.pop("strategies") == other.pop("strategies")
    for name in mine:
        assert mine[name] == pytest.approx(other[name]), name
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (one, two))
    for name, value in ours.items():
        if not name.endswith("key.bias"):  # its gradient is 0 but for rounding, which Adam makes large
            assert (value - theirs[name]).abs().max() < 1e-5, name


def test_a_mistake_is_one_line():
    """Nothing to do, and nothing imported to find it out."""
    done = launch(sys.executable, "-m", "companions.lamp.rspg.rspg", "--task", "LaMP-3")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [
        "error: nothing to do: give --do_train, --do_validation or both"
    ]
