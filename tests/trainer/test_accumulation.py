"""Gradient accumulation: the optimiser's steps are those of plain Adam on groups of batches, at every ZeRO stage."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import set_seed

from models.reading import make_loader
from models.registry import build_model, build_tokenizer
from tests.helpers import logged, train
from tests.trainer.regression import regression_task
from trainer import training
from trainer.loop import Trainer

# 29 examples: 8 batches of 4 at most, in groups of 3, 3 and 2
SETTINGS = {"training_ratio": 0.33, "num_epochs": 2, "log_every": 2, "learning_rate": 0.01}
GROUPS = [range(0, 3), range(3, 6), range(6, 8)]
LIMIT = 380  # tokens that the tiny LM's positions leave for a text


@pytest.fixture
def run_accumulating(make_config, distributed, tmp_path, monkeypatch):
    """run_accumulating(stage, steps): the folder of a run whose last weights are kept."""
    losses = iter(range(100, 0, -1))
    monkeypatch.setattr(Trainer, "_validate", lambda self, epoch: {"total": float(next(losses))})

    def run(stage=2, accumulation=3, **training):
        ds_config = tmp_path / "ds.json"
        content = {"gradient_accumulation_steps": accumulation, "zero_optimization": {"stage": stage}}
        ds_config.write_text(json.dumps(content), encoding="utf-8")
        return train(make_config(training=SETTINGS | training), distributed, "groups", str(ds_config))

    return run


@pytest.fixture
def by_hand(make_config):
    """by_hand(training): what torch.optim.Adam makes of the same batches; the trained parameters by name."""

    def run(**training):
        config = make_config(training=SETTINGS | training)
        set_seed(config.training.seed)
        tokenizer = build_tokenizer(config)
        model = build_model(config, tokenizer).train()
        loader = make_loader(config.dataset.train, tokenizer, config, train=True, max_tokens=LIMIT)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        adam = torch.optim.Adam(parameters, lr=config.training.learning_rate)
        for epoch in range(config.training.num_epochs):
            loader.batch_sampler.set_epoch(epoch)
            batches = list(loader)
            assert len(batches) == 8
            for group in GROUPS:
                adam.zero_grad()
                losses = [model(batches[number]).total for number in group]
                (sum(losses) / len(losses)).backward()
                if config.training.grad_clip:
                    torch.nn.utils.clip_grad_norm_(parameters, config.training.grad_clip)
                adam.step()
        return model.trained_state()

    return run


@pytest.mark.slow
@pytest.mark.parametrize("clip", [pytest.param(0.0, marks=pytest.mark.long), 0.01])
def test_steps_are_those_of_plain_adam(run_accumulating, by_hand, clip):
    """A last group that is dropped, or summed where the others are averaged; AdamW's decay; one step too many.

    Each trains another model than the configuration says, with losses that look as good.
    """
    wanted = by_hand(grad_clip=clip)
    for stage in (0, 1, 2, 3):
        trained = load_file(run_accumulating(stage, grad_clip=clip) / "trained.safetensors")
        assert trained.keys() == wanted.keys()
        for name, tensor in wanted.items():
            assert (trained[name] - tensor).abs().max() < 2e-6, (stage, name)


def test_logged_steps_are_the_optimisers(run_accumulating, capsys):
    """Step numbers that repeat draw a curve with loops; an epoch of 3 steps logs steps 2 and 3."""
    run = run_accumulating()
    rows = logged(run, "train")
    assert [row["step"] for row in rows] == [2, 3, 5, 6]
    assert [row["examples"] for row in rows] == [24, 5, 24, 5]  # 6 batches of 4, and what is left
    assert [row["step"] for row in logged(run, "train_epoch")] == [3, 6]
    assert "8 batches of 4 examples per rank and epoch, 6 steps in all" in capsys.readouterr().out


def test_without_accumulation_every_batch_is_a_step(run_accumulating):
    """A default other than one step a batch would make every published learning rate wrong."""
    assert [row["step"] for row in logged(run_accumulating(accumulation=1), "train_epoch")] == [8, 16]


def test_more_accumulation_than_batches_is_one_step_an_epoch(run_accumulating):
    """A short epoch that never fills a group trained nothing at all."""
    assert [row["step"] for row in logged(run_accumulating(accumulation=50), "train")] == [1, 2]


def test_a_task_may_say_the_accumulation(distributed, tmp_path, capsys):
    """A method whose paper names its effective batch would depend on the DeepSpeed file that is at hand."""
    ds_config = tmp_path / "ds.json"
    ds_config.write_text(json.dumps({"gradient_accumulation_steps": 3}), encoding="utf-8")
    for steps, updates, said in (
        (2, [2, 4, 6, 8], True),
        (3, [1, 2, 3, 4], False),
        (None, [1, 2, 3, 4], False),
    ):
        task = replace(regression_task(str(tmp_path / "runs")), accumulation_steps=steps)
        run = training.train(task, distributed, "steps", str(ds_config))
        assert [row["step"] for row in logged(run, "valid_epoch")] == updates  # 3 batches an epoch
        note = "automatic choice: gradient_accumulation_steps is 2, not the DeepSpeed configuration's 3"
        assert (note in capsys.readouterr().out.splitlines()) == said
