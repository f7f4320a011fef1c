"""After training nothing of the trained model is in memory: decoding loads its own."""

import json
import weakref

import pytest

from tests.helpers import train
from trainer import training


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("precision", [32, "bf16"])
def test_model_and_engine_are_gone_after_training(
    make_config, distributed, tmp_path, monkeypatch, stage, precision
):
    """A trained LM beside the one that decodes takes twice the memory: on a GPU that it filled, an error.

    DeepSpeed keeps cycles, and at stage 3 its last model in state of its own modules.
    """
    alive = []
    make_engine = training.make_engine

    def noting(model, *arguments):
        engine = make_engine(model, *arguments)
        things = [model, model.lm, model.lm.model, engine, engine.optimizer, *model.parameters()]
        alive.extend((type(thing).__name__, weakref.ref(thing)) for thing in things)
        return engine

    monkeypatch.setattr(training, "make_engine", noting)
    ds_config = tmp_path / "ds.json"
    ds_config.write_text(json.dumps({"zero_optimization": {"stage": stage}}), encoding="utf-8")
    config = make_config(model={"load_bit": precision}, training={"training_ratio": 0.2})
    train(config, distributed, "memory", str(ds_config))
    assert alive
    assert {name for name, thing in alive if thing() is not None} == set()
