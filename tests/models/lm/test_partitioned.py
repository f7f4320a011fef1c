"""An LM that is loaded partitioned is the same LM, whatever is made beside it. Here in one process.

In two: `tests/trainer/test_two_ranks.py`.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from models.lm import language_model, partitioned
from models.lm.language_model import load_language_model
from models.registry import build_tokenizer
from tests.families import CONFIGS, tiny_lm
from tests.helpers import logged, train
from utils.errors import UserError
from utils.partitioning import end_partitioning, is_partitioned, partition_on_loading, whole, whole_shape

DS_CONFIG = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3}}
TYPES = {
    "selective_pt": {"prompt_init": "text", "prompt_init_text": "i like to ski"},
    "prompt_tuning": {"prompt_init": "vocab"},
    "prefix_tuning": {},
    "lora": {},
    "full_finetuning": {},
}


PARTITIONED = ("lora", "full_finetuning")
"""whose trained part is in the LM: loading it must change every share"""


@pytest.fixture(autouse=True)
def _ended():
    yield
    end_partitioning()


def ds_config_of(precision):
    """A complete configuration of stage 3."""
    return DS_CONFIG | {"bf16": {"enabled": precision == "bf16"}}


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        *((name, 32) for name in CONFIGS),
        *((name, "bf16") for name in ("llama", "gpt2", "gemma", "mixtral", "phi3")),
    ],
)
def test_a_partitioned_lm_has_every_value_of_a_whole_one(make_config, distributed, tmp_path, name, precision):
    """A buffer made in bf16, or experts that were not put together, would train an LM that is not the file's."""
    config = make_config()
    tiny_lm(name, build_tokenizer(config)).save_pretrained(tmp_path, max_shard_size="100KB")
    model = config.model.replaced({"model_name": str(tmp_path), "load_bit": precision})
    expected = load_language_model(model)
    with partition_on_loading(ds_config_of(precision)):
        lm = load_language_model(model)
    assert lm.width == expected.width
    theirs = dict(expected.named_parameters())
    for key, parameter in lm.named_parameters():
        assert is_partitioned(parameter)
        assert whole_shape(parameter) == theirs[key].shape
        with whole([parameter]):
            assert parameter.dtype == theirs[key].dtype
            assert torch.equal(parameter, theirs.pop(key)), key
    assert not theirs
    for (key, ours), (other, buffer) in zip(lm.named_buffers(), expected.named_buffers(), strict=True):
        assert (key, ours.dtype) == (other, buffer.dtype)
        assert torch.equal(ours, buffer), key


@pytest.mark.parametrize("single", [True, False])
def test_weights_are_read_one_by_one(lm_folder, distributed, tmp_path, monkeypatch, single):
    """Rank 0 would read all of the files, or map them, and hold the whole LM after all."""
    model = AutoModelForCausalLM.from_pretrained(lm_folder("llama"))
    model.save_pretrained(tmp_path, max_shard_size="1GB" if single else "50KB")
    files = list(tmp_path.glob("*.safetensors"))
    assert (len(files) == 1) == single
    state = partitioned._stored_state(str(tmp_path), True)
    assert state.keys() == {name for path in files for name in load_file(path)}
    assert not any(isinstance(each, torch.Tensor) for each in state.values())
    monkeypatch.setattr(partitioned.torch.distributed, "get_rank", lambda: 1)
    state = partitioned._stored_state(str(tmp_path), True)
    assert {each.device.type for each in state.values()} == {"meta"}


def test_a_file_with_too_many_layers_is_refused_before_anything_is_partitioned(
    make_config, lm_folder, distributed, tmp_path
):
    """The library's own way to load partitioned weights leaves out what it has no place for, in silence."""
    folder = Path(shutil.copytree(lm_folder("opt"), tmp_path / "lm"))
    state = load_file(folder / "model.safetensors")
    more = {key.replace("layers.1.", "layers.2."): value.clone() for key, value in state.items()}
    save_file({**more, **state}, folder / "model.safetensors", {"format": "pt"})
    config = make_config(model={"model_name": str(folder)})
    with partition_on_loading(DS_CONFIG), pytest.raises(UserError, match="has no layer for"):
        load_language_model(config.model)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        name if name in ("selective_pt", "lora") else pytest.param(name, marks=pytest.mark.long)
        for name in TYPES
    ],
)
def test_every_type_trains_on_a_partitioned_lm(make_config, distributed, tmp_path, monkeypatch, name):
    """What a type makes from the LM's weights, before there is an engine, would be made from empty ones."""
    loaded, losses, linear = [], {}, torch.nn.functional.linear
    original = language_model.load_partitioned
    monkeypatch.setattr(
        language_model, "load_partitioned", lambda *args: loaded.append(True) or original(*args)
    )
    for stage in (2, 3):
        path = tmp_path / "ds.json"
        path.write_text(json.dumps({"zero_optimization": {"stage": stage}}), encoding="utf-8")
        config = make_config(
            model={"model_type": name, **TYPES[name]},
            training={"training_ratio": 0.1, "log_every": 1, "save_model": name in PARTITIONED},
        )
        runs = [train(config, distributed, "first", str(path))]
        if name in PARTITIONED:
            runs.append(train(config, distributed, "again", str(path), str(runs[0])))
        losses[stage] = [row["total"] for run in runs for row in logged(run, "train")]
    assert loaded == [True] * len(runs)
    assert losses[3] == pytest.approx(losses[2], rel=1e-5)
    # DeepSpeed's own keeps the input of each layer, frozen ones too: a later training would need 1.4 times the memory
    assert torch.nn.functional.linear is linear
