"""Settings that a run takes without a word also when nothing reads them: each must change what it says."""

import numpy as np
import pytest
import torch

from dataset.dialogue import examples_of
from dataset.loading import read_examples
from dataset.readers import read_dialogues
from models.reading import make_loader
from models.registry import build_tokenizer
from tests.helpers import logged, model_of, train, train_batch


def _loader(config, for_training):
    return make_loader(config.dataset.train, build_tokenizer(config), config, train=for_training)


def _order(loader):
    return np.concatenate([batch.indices.numpy() for batch in loader]).tolist()


def test_the_contrastive_threshold_is_the_configurations(make_config, examples):
    """A threshold that is not read labels pairs by another border, and a search over it finds nothing."""
    losses = []
    for threshold in (0.01, 99.9):
        torch.manual_seed(0)
        model = model_of(make_config(training={"contrastive_threshold": threshold}))
        batch = train_batch(model, [examples[0], examples[8], examples[16], examples[24]])
        losses.append(model(batch).losses["contrastive"].item())
    assert abs(losses[0] - losses[1]) > 0.01


def test_the_smallest_training_ratio_leaves_a_dialogue(make_config):
    """No example at all ends far away, in the sampler."""
    config = make_config()
    first = [example for example in read_examples(config.dataset.train, config) if example.dialogue == 0]
    assert read_examples(config.dataset.train, config, ratio=1e-6) == first


def test_the_training_ratio_leaves_the_validation_whole(make_config):
    """Runs on different shares of the training data would be compared on different validation examples."""
    config = make_config(training={"training_ratio": 0.2})
    whole = examples_of(read_dialogues(config.dataset.train, "convai2"))
    assert sorted(_order(_loader(config, False))) == list(range(len(whole)))
    assert len(_order(_loader(config, True))) < len(whole) / 2


@pytest.mark.parametrize("for_training", [False, True])
def test_without_shuffling_the_seed_changes_nothing(make_config, for_training):
    """--shuffle_train=no that shuffles all the same cannot be seen in any figure."""
    orders = [
        _order(_loader(make_config(training={"shuffle_train": False, "seed": seed}), for_training))
        for seed in (1, 2)
    ]
    assert orders[0] == orders[1]


def test_the_steps_that_were_announced_are_made(make_config, distributed, tmp_path, capsys):
    """The learning rate's schedule rests on that number, also where the file leaves accumulation out."""
    ds_config = tmp_path / "ds.json"
    ds_config.write_text('{"zero_optimization": {"stage": 2}}', encoding="utf-8")
    config = make_config(training={"training_ratio": 0.2, "save_model": False})
    run = train(config, distributed, "steps", str(ds_config))
    assert f" {logged(run, 'train_epoch')[-1]['step']} steps in all" in capsys.readouterr().out
