"""What an epoch is to the model: its order, its share of the training, its mode, and its noise."""

import json

import pytest
import torch

from models.spt.model import SelectivePromptTuning
from tests.helpers import logged, train

EPOCHS = 3
# 4 batches of 4 an epoch, 15 examples
SETTINGS = {"training_ratio": 0.2, "num_epochs": EPOCHS, "save_model": False}


@pytest.fixture
def calls(make_config, distributed, monkeypatch):
    """calls(training): (training mode, progress, example numbers) of every forward pass of a run."""

    def run(**training):
        seen = []
        forward = SelectivePromptTuning.forward

        def noting(self, batch, progress=0.0):
            seen.append((self.training, progress, batch.indices.tolist()))
            return forward(self, batch, progress)

        monkeypatch.setattr(SelectivePromptTuning, "forward", noting)
        train(make_config(training=SETTINGS | training), distributed, "progress")
        return seen

    return run


@pytest.mark.slow
def test_every_epoch_has_an_order_of_its_own(calls):
    """The release trained every epoch in the same order: the same batches, with the same pairs, again and again."""
    training = [numbers for mode, _, numbers in calls(training_ratio=1.0) if mode]
    size = len(training) // EPOCHS
    epochs = [training[start : start + size] for start in range(0, len(training), size)]
    assert len(epochs) == EPOCHS
    everything = sorted(number for numbers in epochs[0] for number in numbers)
    for epoch in epochs:
        assert sorted(number for numbers in epoch for number in numbers) == everything
    assert len({json.dumps(epoch) for epoch in epochs}) == EPOCHS


def test_progress_runs_once_through_the_whole_training(calls):
    """Annealing that begins anew in every epoch never ends; in validation it would change the figure."""
    seen = calls()
    progress = [value for mode, value, _ in seen if mode]
    assert progress == pytest.approx([number / len(progress) for number in range(len(progress))])
    assert {value for mode, value, _ in seen if not mode} == {0.0}


def test_each_pass_is_in_its_mode(calls):
    """Validation in training mode has noise and dropout in its losses; 7 batches of it follow each epoch."""
    modes = [mode for mode, _, _ in calls()]
    assert modes == ([True] * (len(modes) // EPOCHS - 7) + [False] * 7) * EPOCHS


@pytest.mark.slow
@pytest.mark.long
def test_noise_does_not_depend_on_the_workers(make_config, distributed):
    """Workers that draw from the global random state make other runs of the same seed, from epoch 2 on."""
    runs = []
    for workers in (0, 2):
        settings = SETTINGS | {"adding_noise": 0.5, "num_workers": workers}
        run = train(make_config(training=settings), distributed, "noise")
        runs.append([row["total"] for row in logged(run, "train_epoch")])
    assert runs[0] == runs[1]
    still = train(make_config(training=SETTINGS), distributed, "still")
    assert runs[0] != [row["total"] for row in logged(still, "train_epoch")]
    assert torch.tensor(runs[0]).isfinite().all()
