"""ROPG on the shared trainer: what it learns, what it leaves, and that it is plain Adam on averaged gradients."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from companions.lamp.encoder import load_encoder
from companions.lamp.rankers import RankerOptions
from companions.lamp.rankings import rank_file
from companions.lamp.ropg.model import set_dropout
from companions.lamp.ropg.settings import KDConfig, RLConfig
from companions.lamp.ropg.task import ropg_task
from companions.lamp.tasks import task_of
from tests.companions.lamp.ropg.questions import ENCODER, write_files
from tests.helpers import logged
from trainer.training import train
from utils.config.loading import validated
from utils.errors import UserError
from utils.runs import is_run

CONFIGS = {"kd": KDConfig, "rl": RLConfig}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Training and validation questions."""
    folder = tmp_path_factory.mktemp("ropg")
    counts = {"train": 24, "valid": 12, "many": 64, "held_out": 24}
    return {name: write_files(folder, name, count, seed=count % 64) for name, count in counts.items()}


@pytest.fixture
def config_of(files, tmp_path):
    """config_of(method, train="train", valid="valid", **training): a configuration."""

    def make(method="kd", train="train", valid="valid", model=None, **training):
        dataset = {"task": "LaMP-4"}
        for key, name in (("train", train), ("valid", valid)):
            if name:
                dataset |= {key: files[name]["merged"], f"{key}_scores": files[name]["scores"]}
        settings = {"learning_rate": 1e-3, "log_dir": str(tmp_path / "runs"), "log_every": 1, "num_epochs": 1}
        sections = {
            "model": {"model_name": str(ENCODER)} | (model or {}),
            "dataset": dataset | {"ctx_size": 4},
            "training": settings | training,
        }
        return validated([("test", sections)], CONFIGS[method])

    return make


@pytest.fixture
def run_ropg(config_of, distributed, tmp_path):
    """run_ropg(method, train, valid, stage=2, **training): the run folder."""

    def run(method="kd", *files, stage=2, **settings):
        ds_config = tmp_path / "ds.json"
        # at stage 3 small parameters, too, are taken apart
        zero = {"stage": stage, "stage3_param_persistence_threshold": 0}
        ds_config.write_text(json.dumps({"zero_optimization": zero}), encoding="utf-8")
        task = ropg_task(config_of(method, *files, **settings))
        return train(task, distributed, f"ropg-{method}", str(ds_config))

    return run


def weights(run):
    """The encoder of a run folder."""
    return load_file(run / "model" / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("kd", {"temperature": 0.5}),
        pytest.param("rl", {"expectation": "exact"}, marks=pytest.mark.long),
        ("rl", {"expectation": "sampled", "learning_rate": 4e-4}),
    ],
)
def test_it_learns_which_item_serves(run_ropg, method, settings):
    """A sign that is wrong, or utilities of other items, still lower the loss; on new questions it shows."""
    run = run_ropg(method, "many", "held_out", num_epochs=16, batch_size=8, **settings)
    rows = logged(run, "valid_epoch")
    best = max(row["utility"] for row in rows)
    assert rows[0]["first_utility"] < 0.5
    assert best > 0.8  # 0.9 is the most, 0.3 what a draw gives
    row = next(row for row in rows if row["utility"] == best)
    assert row["regret"] == pytest.approx(0.9 - row["utility"], abs=1e-6)
    assert row["agreement"] > 0.85
    assert sum(row["document_share"]) == pytest.approx(1)
    assert len(row["document_share"]) == 4
    metadata = json.loads((run / "trained.json").read_text(encoding="utf-8"))
    assert metadata["best_value"] == best
    assert metadata["best_by"] == "mean utility of the chosen item"
    assert metadata["method"] == f"ropg-{method}"
    assert {"train_sha256", "train_scores_sha256"} <= metadata.keys()


@pytest.mark.parametrize("stage", [0, 3])
def test_the_checkpoint_ranks_at_once(run_ropg, files, distributed, tmp_path, stage):
    """The original saves no tokenizer: its checkpoint cannot be used before one is copied beside it.

    At stage 3 the parameters are taken apart, also those that are not trained.
    """
    run = run_ropg(stage=stage)
    assert is_run(run)
    before, after = load_encoder(str(ENCODER)), load_encoder(str(run))
    texts = ["the harbour", "an oven every morning"]
    assert after.tokenize(texts) == before.tokenize(texts)
    assert after.max_length == before.max_length
    one, other = (encoder.embed(encoder.tokenize(texts))[0] for encoder in (before, after))
    assert (one - other).abs().max() > 1e-3
    ranking = tmp_path / "ranking.json"
    options = RankerOptions(encoder=str(run))
    merged = Path(files["valid"]["merged"])
    rank_file(merged, ranking, task_of("LaMP-4"), "contriever", distributed, options)
    assert len(json.loads(ranking.read_text(encoding="utf-8"))) == 12
    # any program that reads Hugging Face models does, too
    model, tokenizer = (kind.from_pretrained(run / "model") for kind in (AutoModel, AutoTokenizer))
    assert tokenizer(texts).input_ids == after.tokenize(texts)
    for name, value in after.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    # the pooler, which nothing trains, is as it was
    for name, value in before.model.state_dict().items():
        assert torch.equal(value, after.model.state_dict()[name]) == name.startswith("pooler."), name


def by_hand(config, distributed, batches_of_step):
    """The weights that plain Adam makes with gradients averaged over the batches of each step."""
    prepared = ropg_task(config).prepare(distributed)
    module = prepared.module.train()
    kind = torch.optim.AdamW if config.training.optimizer == "adamw" else torch.optim.Adam
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = kind(parameters, lr=config.training.learning_rate, weight_decay=config.training.weight_decay)
    for epoch in range(config.training.num_epochs):
        prepared.train.batch_sampler.set_epoch(epoch)
        batches = list(prepared.train)
        for first in range(0, len(batches), batches_of_step):
            step = batches[first : first + batches_of_step]
            optimizer.zero_grad()
            (sum(module(batch).total for batch in step) / len(step)).backward()
            if config.training.grad_clip:
                torch.nn.utils.clip_grad_norm_(parameters, config.training.grad_clip)
            optimizer.step()
    return module.lm.state_dict()


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("kd", {}),
        ("kd", {"optimizer": "adamw", "weight_decay": 0.1, "grad_clip": 0.0}),
        ("kd", {"weight_decay": 0.1}),
        ("rl", {"num_epochs": 2}),
    ],
)
def test_steps_are_those_of_plain_adam(run_ropg, config_of, distributed, method, settings):
    """Summed micro-batches make the clip bite 8 times harder; a last group that is dropped is never learnt from."""
    settings = {"batch_size": 5, "accumulation_steps": 2, "best_by": "loss", "learning_rate": 1e-4} | settings
    run = run_ropg(method, **settings)
    wanted = by_hand(config_of(method, **settings), distributed, 2)
    found = weights(run)
    for name, value in wanted.items():
        if not name.endswith("key.bias"):  # its gradient is 0 but for rounding, which Adam makes large
            torch.testing.assert_close(found[name], value, atol=2e-6, rtol=0)


def test_a_run_is_repeated_exactly(run_ropg):
    """Drawn items that are not seeded make every comparison of two settings one of luck."""
    one, same, other = (weights(run_ropg("rl", seed=seed)) for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_total_steps_and_what_is_said(run_ropg, capsys):
    """Original runs are counted in steps: 24 questions in batches of 5 are 5 batches a pass."""
    run = run_ropg(total_steps=8, save_freq=4, batch_size=5, accumulation_steps=2, valid=None)
    assert [row["step"] for row in logged(run, "train")] == list(range(1, 9))
    assert [row["step"] for row in logged(run, "valid_epoch")] == [4, 8]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ROPG-KD: retriever bert")
    assert lines[3].startswith("8 batches of 5 examples per rank and epoch, 8 steps in all, at most 4 items")
    assert sum("validation on the training questions" in line for line in lines) == 1
    run_ropg(total_steps=7, save_freq=4)
    assert "automatic choice: 8 steps, not 7: 2 rounds of equal length" in capsys.readouterr().out


def test_the_best_checkpoint_by_loss(run_ropg):
    """A loss may be the better guide where the validation file is small."""
    run = run_ropg(num_epochs=4, best_by="loss")
    metadata = json.loads((run / "trained.json").read_text(encoding="utf-8"))
    assert metadata["best_by"] == "validation loss"
    assert metadata["validation_loss"] == min(row["total"] for row in logged(run, "valid_epoch"))


def test_validation_draws_nothing(config_of, distributed):
    """A drawn validation loss would choose the checkpoint that was lucky."""
    prepared = ropg_task(config_of("rl")).prepare(distributed)
    module, batch = prepared.module, next(iter(prepared.valid))
    exact = ropg_task(config_of("rl", expectation="exact")).prepare(distributed).module
    assert module.eval()(batch).total == exact.train()(batch).total
    assert module.train()(batch).total != exact(batch).total


def test_dropout_of_the_configuration(config_of, distributed):
    """The original has a flag for it that nothing reads."""
    prepared = ropg_task(config_of(model={"dropout": 0.5})).prepare(distributed)
    module, batch = prepared.module, next(iter(prepared.train))
    drops = [part.p for part in module.modules() if isinstance(part, torch.nn.Dropout)]
    assert drops
    assert set(drops) == {0.5}
    module.train()
    assert module(batch).total != module(batch).total
    set_dropout(module, 0.0)
    assert module(batch).total == module(batch).total


def test_mistakes_are_told_before_any_training(config_of, distributed, tmp_path):
    """An hour of ranking and feedback later nobody wants a traceback."""
    config = config_of()
    for change, message in (
        ({"dataset": {"task": "LaMP-9"}}, "unknown task 'LaMP-9'"),
        ({"dataset": {"train": "none.json"}}, "merged file not found: none.json"),
        ({"dataset": {"train_scores": "none.json"}}, "feedback not found: none.json"),
        ({"model": {"model_name": str(tmp_path)}}, "--model_path|cannot be read"),
    ):
        with pytest.raises(UserError, match=message):
            ropg_task(config.replaced(change)).prepare(distributed)
    assert not Path(config.training.log_dir).exists()
