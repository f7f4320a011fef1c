"""Between the loading of a model and its first step nobody waits for a hash, or for weights that are there."""

import json
import threading

import deepspeed
import pytest
import torch.distributed as dist

from models import conversation
from tests.helpers import train
from trainer import training
from utils.errors import UserError


@pytest.fixture
def run(make_config, distributed, tmp_path):
    """run(stage): the run folder of a short training."""

    def start(stage=2):
        ds_config = tmp_path / "ds.json"
        ds_config.write_text(json.dumps({"zero_optimization": {"stage": stage}}), encoding="utf-8")
        return train(make_config(training={"training_ratio": 0.2}), distributed, "start", str(ds_config))

    return start


def test_nobody_waits_for_the_hash_of_the_lm(run, monkeypatch):
    """Rank 0 reads 26 GB of a 13B LM for it, while the others wait for rank 0 in the first collective."""
    engine_is_there = threading.Event()

    def slow_hash(_name):
        assert engine_is_there.wait(60)
        return "of the files"

    def make_engine(*arguments):
        engine_is_there.set()
        return original(*arguments)

    original = training.make_engine
    monkeypatch.setattr(conversation, "weights_sha256", slow_hash)
    monkeypatch.setattr(training, "make_engine", make_engine)
    metadata = json.loads((run() / "trained.json").read_text(encoding="utf-8"))
    assert metadata["base_model_sha256"] == "of the files"


def test_a_hash_that_fails_ends_the_run(run, monkeypatch):
    """On its thread an error is lost: a run without metadata cannot be decoded."""

    def failing(_name):
        raise UserError("the disk is gone")

    monkeypatch.setattr(conversation, "weights_sha256", failing)
    with pytest.raises(UserError, match="the disk is gone"):
        run()


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_frozen_weights_are_not_sent_to_other_ranks(run, monkeypatch, stage):
    """What is mapped from a file would become memory of each rank, and 26 GB go over the network."""
    sent, modules = [], []
    engine_dist = deepspeed.runtime.engine.dist
    broadcast, initialize = engine_dist.broadcast, deepspeed.initialize

    def recorded(tensor, *args, **kwargs):
        sent.append(tensor.data_ptr())
        return broadcast(tensor, *args, **kwargs)

    def noting(model, **options):
        modules.append(model)
        return initialize(model=model, **options)

    monkeypatch.setattr(engine_dist, "broadcast", recorded)
    monkeypatch.setattr(deepspeed, "initialize", noting)
    monkeypatch.setattr(training, "end_engine", lambda engine: pointers.update(_pointers(engine.module)))
    pointers = {}
    run(stage)
    assert sent
    assert not {pointers[name] for name in pointers if name.startswith("lm.")} & set(sent)
    assert not any(hasattr(weight, "ds_optim_param") for weight in modules[0].parameters())


def _pointers(module):
    return {name: parameter.data_ptr() for name, parameter in module.named_parameters()}


def test_ranks_with_different_frozen_weights_do_not_train(run, monkeypatch):
    """A node with another LM under the same name would train the prompts of no LM at all, without an error."""

    def other(sums, mine):
        sums[:] = [mine, mine + 1]

    monkeypatch.setattr(dist, "all_gather_object", other)
    with pytest.raises(UserError, match="different frozen weights"):
        run()
