"""RSPG on the shared trainer: what it learns, what it leaves, and predictions with it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from companions.lamp.evaluation import evaluate_task
from companions.lamp.questions import read_outputs
from companions.lamp.rspg.data import read_rows
from companions.lamp.rspg.inference import validate
from companions.lamp.rspg.model import load_scorer, scorer_encoder
from companions.lamp.rspg.running import run_rspg
from companions.lamp.rspg.settings import RspgConfig
from companions.lamp.rspg.task import rspg_task
from companions.lamp.tasks import task_of
from tests.companions.lamp.rspg.data import ENCODER, SMALL, STRATEGIES, write_rows
from tests.helpers import logged
from trainer.training import train
from utils.config.loading import validated
from utils.errors import UserError

TASK = task_of("LaMP-4")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Training and validation questions, and the golds of the latter."""
    folder = tmp_path_factory.mktemp("rspg")
    found = {name: write_rows(folder, name, count, count) for name, count in (("train", 60), ("valid", 21))}
    golds = [{"id": row.id, "output": row.gold} for row in read_rows(found["valid"], TASK)]
    found["golds"] = str(folder / "golds.json")
    (folder / "golds.json").write_text(json.dumps({"task": "LaMP_4", "golds": golds}), encoding="utf-8")
    return found


@pytest.fixture
def config_with(files, tmp_path):
    """config_with(model={}, dataset={}, **training): a configuration."""

    def make(model=None, dataset=None, **training):
        data = {"task": "LaMP-4", "rspg_type": "Pre", "train": files["train"], "valid": files["valid"]}
        settings = {"learning_rate": 2e-3, "log_dir": str(tmp_path / "runs"), "log_every": 1, "num_epochs": 1}
        sections = {
            "model": {"model_name": str(SMALL)} | (model or {}),
            "dataset": data | {"valid_golds": files["golds"], "max_length_input": 32} | (dataset or {}),
            "training": settings | training,
        }
        return validated([("test", sections)], RspgConfig)

    return make


@pytest.mark.slow
def test_it_learns_which_strategy_serves(config_with, distributed, files):
    """A wrong sign or another question's labels lower the loss as well; predictions of new questions show it."""
    config = config_with(num_epochs=3, batch_size=10, label_temperature=0.5)
    folder = run_rspg(config, distributed, "pre", do_train=True, do_validation=True)
    rows = logged(folder, "valid_epoch")
    best = max(row["rouge-1"] for row in rows)
    assert best > 0.95
    metadata = json.loads((folder / "trained.json").read_text(encoding="utf-8"))
    assert metadata["best_value"] == best
    assert metadata["best_by"] == "validation rouge-1"
    assert metadata["strategies"] == list(STRATEGIES)
    assert {"train_sha256", "valid_sha256"} <= metadata.keys()
    report = json.loads((folder / "predictions" / "metrics.json").read_text(encoding="utf-8"))
    final = folder / "predictions" / "final_preds.json"
    assert report["chosen"] == pytest.approx(evaluate_task(TASK, files["golds"], final))
    assert report["chosen"]["rouge-1"] == pytest.approx(best)
    assert report["success_rate"] == max(row["agreement"] for row in rows)
    assert (report["oracle"]["rouge-1"], report["worst"]["rouge-1"], report["questions"]) == (1, 0, 21)
    wanted = dict.fromkeys(STRATEGIES, 0)
    for row in read_rows(files["valid"], TASK):
        wanted[row.strategies[row.utilities.index(1)]] += 1 / 21
    alone = {name: metrics["rouge-1"] for name, metrics in report["strategies"].items()}
    assert alone == pytest.approx(wanted)
    assert max(alone.values()) < 0.6


def test_a_trained_scorer_predicts_again(config_with, distributed, tmp_path):
    """The original's second prediction into one folder reads the first one as its own, and fails."""
    folder = run_rspg(config_with(), distributed, "pre", do_train=True, do_validation=True)
    final = folder / "predictions" / "final_preds.json"
    first = final.read_bytes()
    config = config_with(model={"model_name": str(folder)})
    for _ in range(2):
        again = run_rspg(config, distributed, "again", do_train=False, do_validation=True)
        assert again == tmp_path / "runs" / "again"
        assert (again / "predictions" / "final_preds.json").read_bytes() == first
    ids = [name for name, _ in read_outputs(final, TASK)]
    assert ids == [row.id for row in read_rows(config.dataset.valid, TASK)]


def test_the_checkpoint_is_the_trained_scorer(config_with, distributed):
    """A head that is drawn anew beside trained encoder weights predicts at random."""
    folder = run_rspg(config_with(), distributed, "pre", do_train=True, do_validation=False)
    config = config_with(model={"model_name": str(folder)})
    prepared = rspg_task(config).prepare(distributed)
    batch, scorer = next(iter(prepared.valid)), prepared.module.eval()
    fresh = rspg_task(config_with()).prepare(distributed).module.eval()
    assert (
        fresh.score(batch.texts, batch.places) - scorer.score(batch.texts, batch.places)
    ).abs().max() > 1e-3
    row = logged(folder, "valid_epoch")[0]
    assert sum(
        scorer(batch).total.item() * batch.num_examples for batch in prepared.valid
    ) / 21 == pytest.approx(row["total"], abs=1e-5)


def test_a_scorer_is_used_as_it_was_trained(config_with, distributed):
    """Pre's scorer on Post's inputs, or strategies in another order, would choose without a word."""
    folder = run_rspg(config_with(), distributed, "pre", do_train=True, do_validation=False)
    config = config_with(model={"model_name": str(folder)}, dataset={"rspg_type": "Post"})
    with pytest.raises(UserError, match="trained with rspg_type 'Pre', not 'Post'"):
        validate(config, folder / "predictions", distributed)
    config = config_with(model={"model_name": str(folder)}, dataset={"max_length_input": 31})
    with pytest.raises(UserError, match="trained with max_length_input 32, not 31"):
        validate(config, folder / "predictions", distributed)
    config = config_with(model={"model_name": str(folder)})
    with pytest.raises(UserError, match="trained with strategies"):
        load_scorer(config, scorer_encoder(config), STRATEGIES[::-1])
    with pytest.raises(UserError, match="predictions need the run folder of a trained scorer"):
        validate(config_with(), folder / "predictions", distributed)


def test_a_trained_scorer_without_its_pooler_is_refused(config_with, distributed):
    """The library draws a new one, and the scorer chooses at random."""
    folder = train(rspg_task(config_with()), distributed, "cut")
    path = folder / "model" / "model.safetensors"
    left = {name: value for name, value in load_file(path).items() if not name.startswith("pooler.")}
    save_file(left, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match="its files lack 2 of its weights, such as pooler.dense.bias"):
        scorer_encoder(config_with(model={"model_name": str(folder)}))


def test_golds_are_those_of_the_data(config_with, distributed, files, tmp_path):
    """Data of another split would be scored against golds that are not theirs."""
    content = json.loads(Path(files["golds"]).read_text(encoding="utf-8"))
    path = tmp_path / "golds.json"
    for change, message in (
        (lambda golds: golds.pop(), "no gold for question 'q20'"),
        (lambda golds: golds.append({"id": "more", "output": "x"}), "no question 'more'"),
        (lambda golds: golds[3].update(output="x"), "question 'q3': its gold is not that of"),
    ):
        golds = [dict(row) for row in content["golds"]]
        change(golds)
        path.write_text(json.dumps({"task": "LaMP_4", "golds": golds}), encoding="utf-8")
        with pytest.raises(UserError, match=message):
            rspg_task(config_with(dataset={"valid_golds": str(path)})).prepare(distributed)


def test_steps_are_those_of_plain_adam(config_with, distributed):
    """A head or pooler that the optimiser is not given stays as it was drawn."""
    config = config_with(batch_size=16, accumulation_steps=2, learning_rate=1e-4)
    torch.manual_seed(config.training.seed)
    prepared = rspg_task(config).prepare(distributed)
    module = prepared.module.train()
    start = {name: value.clone() for name, value in module.state_dict().items()}
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4)
    prepared.train.batch_sampler.set_epoch(0)
    batches = list(prepared.train)
    for first in range(0, len(batches), 2):
        step = batches[first : first + 2]
        optimizer.zero_grad()
        (sum(module(batch).total for batch in step) / len(step)).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), config.training.grad_clip)
        optimizer.step()
    run = train(rspg_task(config), distributed, "adam")
    trained = config.replaced({"model": {"model_name": str(run)}})
    found = load_scorer(trained, scorer_encoder(trained), STRATEGIES).state_dict()
    assert (found["head.weight"] - start["head.weight"]).abs().max() > 1e-5
    for name, value in module.state_dict().items():
        # gradients that are 0 but for rounding, which Adam makes large
        if not name.endswith(("key.bias", "head.bias")):
            torch.testing.assert_close(found[name], value, atol=5e-6, rtol=0)


def test_longformer_attends_to_the_whole_input(config_with, distributed):
    """The release's first token sees no further than half a window per layer; other encoders have no such switch."""
    for model, fidelity, wanted in (
        (ENCODER, "paper", True),
        (ENCODER, "released_code", False),
        (SMALL, "paper", False),
    ):
        config = config_with(model={"model_name": str(model), "fidelity": fidelity})
        scorer = load_scorer(config, scorer_encoder(config), STRATEGIES)
        assert scorer.global_attention == wanted


@pytest.mark.slow
@pytest.mark.parametrize("fidelity", ["paper", pytest.param("released_code", marks=pytest.mark.long)])
def test_longformer_trains_and_predicts(config_with, distributed, fidelity):
    """Without global attention some of its weights get no gradient, and stay as they are."""
    model = {"model_name": str(ENCODER), "fidelity": fidelity, "gradient_checkpointing": fidelity == "paper"}
    folder = run_rspg(
        config_with(model=model, dataset={"rspg_type": "Post"}, batch_size=30),
        distributed,
        "long",
        True,
        True,
    )
    start, found = (load_file(path / "model.safetensors") for path in (ENCODER, folder / "model"))
    changed = {name for name, value in start.items() if not value.equal(found[name])}
    assert "pooler.dense.weight" in changed
    assert any("query_global.weight" in name for name in changed) == (fidelity == "paper")
