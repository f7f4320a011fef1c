"""The authors' files are read as data, and whatever else they ask for is refused unexecuted."""

import collections
import os
import pickle
import sys
import types
import zipfile
from pathlib import Path

import pytest
import torch

from models.release.checkpoint import read_config, read_module_state
from utils.errors import UserError

REPO = Path(__file__).parents[3]
GOLDEN_PLACES = [Path(os.environ.get("SPT_GOLDEN_DIR", REPO / "tests/golden")), REPO.parent / "shared/golden"]
PUBLISHED = next((g / "published_run" for g in GOLDEN_PLACES if (g / "published_run").is_dir()), None)
PROMPT = "models.{}.prompt_encoder.default.embedding.weight"


class Touch:
    """Writes the file `marker` as soon as somebody unpickles it."""

    def __init__(self, marker, function):
        self.marker, self.function = marker, function

    def __reduce__(self):
        if self.function is eval:
            return eval, (f"open({str(self.marker)!r}, 'w').close()",)
        return self.function, (f"touch '{self.marker}'",)


@pytest.fixture
def dotmap(monkeypatch):
    """A stand-in class that pickles as dotmap.DotMap does: items first, then `_map` and the flags."""

    class DotMap(collections.OrderedDict):
        def __init__(self, items=()):
            super().__init__(items)
            self._map = collections.OrderedDict(items)
            self._dynamic = True

    DotMap.__module__, DotMap.__qualname__ = "dotmap", "DotMap"
    module = types.ModuleType("dotmap")
    module.DotMap = DotMap
    monkeypatch.setitem(sys.modules, "dotmap", module)
    return DotMap


def test_a_dotmap_is_read_without_the_dotmap_package(dotmap, tmp_path, monkeypatch):
    """Were the class imported, reading would need the package, and run whatever stands under its name."""
    path = tmp_path / "checkpoint_best.pth"
    config = dotmap({"model": dotmap({"K": 4, "on": ["prompt"], "unset": dotmap()}), "lr": 1e-5, "x": None})
    torch.save({"config": config}, path)
    monkeypatch.delitem(sys.modules, "dotmap")
    read = read_config(path)
    assert read == {"model": {"K": 4, "on": ["prompt"], "unset": {}}, "lr": 1e-5, "x": None}
    assert type(read) is dict
    assert type(read["model"]) is dict
    assert "dotmap" not in sys.modules


@pytest.mark.parametrize(
    ("function", "named"), [(os.system, f"{os.name}.system"), (eval, "eval")], ids=["system", "eval"]
)
@pytest.mark.parametrize("place", ["top", "item", "attribute"])
def test_a_config_that_names_code_is_refused(dotmap, tmp_path, function, named, place):
    """A pickle that calls a function on loading would run it with the rights of whoever decodes the run."""
    marker, path = tmp_path / "marker", tmp_path / "checkpoint_best.pth"
    payload, config = Touch(marker, function), dotmap({"K": 4})
    if place == "item":
        config["inner"] = dotmap({"x": payload})
    if place == "attribute":
        config._map["x"] = payload
    torch.save({"config": payload if place == "top" else config}, path)
    with pytest.raises(UserError, match=r"nothing was executed") as caught:
        read_config(path)
    assert str(path) in str(caught.value)
    assert named in str(caught.value)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # the payload is live: only the reader kept it from running


def test_forged_attributes_do_not_stand_in_for_methods(tmp_path):
    """A pickle may set `items` on the mapping that it builds; calling that would be the forger's choice."""

    class Forged:
        def __reduce__(self):
            return collections.OrderedDict, (), {"items": 5}, None, iter([("K", 4)])

    torch.save({"config": Forged()}, tmp_path / "checkpoint_best.pth")
    assert read_config(tmp_path / "checkpoint_best.pth") == {"K": 4}


def test_model_states_that_name_code_are_refused(tmp_path):
    """Code hidden beside the tensors, in an entry that nobody wants, would run all the same."""
    marker, path = tmp_path / "marker", tmp_path / "mp_rank_00_model_states.pt"
    torch.save({"module": {"w": torch.ones(2)}, "ds_config": Touch(marker, os.system)}, path)
    with pytest.raises(UserError, match=rf"asks for {os.name}\.system, which is not data"):
        read_module_state(path, lambda name: name == "w")
    assert not marker.exists()


def test_a_newer_pickle_protocol_hides_no_code(tmp_path):
    """Protocol 4 names globals by another opcode; a check that only knows GLOBAL would let it pass."""
    marker, path = tmp_path / "marker", tmp_path / "states.pt"
    torch.save({"module": Touch(marker, os.system)}, path, pickle_protocol=4)
    with pytest.raises(UserError, match="nothing was executed"):
        read_module_state(path, lambda name: True)
    assert not marker.exists()


def test_only_wanted_tensors_come_back_as_own_memory(tmp_path):
    """The frozen language model must not come along, nor may the file stay mapped behind a view."""
    path = tmp_path / "states.pt"
    frozen = torch.arange(1000.0)
    module = collections.OrderedDict([("model.w", frozen), ("normalizer.weight", frozen[:6].view(2, 3).T)])
    torch.save({"module": module, "param_shapes": [{"model.w": frozen.shape}]}, path)
    state = read_module_state(path, lambda name: name.startswith("normalizer"))
    assert list(state) == ["normalizer.weight"]
    assert state["normalizer.weight"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    assert state["normalizer.weight"].untyped_storage().nbytes() == 6 * 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weights": {}}, "holds no 'module'"),
        ({"module": {"w": 1}}, "'w' is a int, a tensor is needed"),
        ({"module": {"other": torch.ones(1)}}, "none of the wanted tensors; it names other"),
        ([1], "holds a list, a dict is needed"),
    ],
)
def test_model_states_of_another_shape_are_refused(tmp_path, content, message):
    """An empty result would leave the prompts at their random initial values, at a plausible score."""
    path = tmp_path / "states.pt"
    torch.save(content, path)
    with pytest.raises(UserError, match=message):
        read_module_state(path, lambda name: name == "w")


def test_a_config_of_another_shape_is_refused(tmp_path):
    """A tensor among the settings, or no settings, would surface far away as a wrong type."""
    path = tmp_path / "checkpoint_best.pth"
    torch.save({"model": {}}, path)
    with pytest.raises(UserError, match="holds no 'config' mapping"):
        read_config(path)
    torch.save({"config": {"K": torch.ones(1)}}, path)
    with pytest.raises(UserError, match="holds a tensor, which is not a setting"):
        read_config(path)
    endless = {}
    endless["again"] = endless
    torch.save({"config": endless}, path)
    with pytest.raises(UserError, match="nested without end"):
        read_config(path)


def test_damaged_files_are_named(tmp_path):
    """A cut download or a flipped bit gives a traceback from inside the zip reader, or a wrong weight."""
    path = tmp_path / "states.pt"
    torch.save({"module": {"w": torch.full((64,), 3.0)}}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=f"{path} is not a whole zip-format torch file: it is cut short"):
        read_module_state(path, lambda name: True)
    at = whole.index(torch.full((64,), 3.0).numpy().tobytes()) + 10
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(UserError, match=r"is damaged: .*states/data/0"):
        read_module_state(path, lambda name: True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "no pickle here")
    with pytest.raises(UserError, match="cannot be read as a torch file"):
        read_module_state(path, lambda name: True)


def test_the_old_format_and_bare_pickles_are_refused(tmp_path):
    """The format before PyTorch 1.6 starts with a pickle; it must not reach another, laxer unpickler."""
    marker, path = tmp_path / "marker", tmp_path / "old.pth"
    torch.save({"config": {}}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match="before PyTorch 1.6"):
        read_config(path)
    path.write_bytes(pickle.dumps(Touch(marker, os.system)))
    with pytest.raises(UserError, match="not a whole zip-format torch file"):
        read_config(path)
    assert not marker.exists()


@pytest.mark.skipif(PUBLISHED is None, reason="no published_run folder among the golden cases")
def test_the_published_run_reads():
    """The real files carry what a stand-in may lack; these are the facts known of them."""
    config = read_config(PUBLISHED / "checkpoint_best.pth")
    assert config["model"]["K"] == 4
    assert config["model"]["peft_config"] == {"num_virtual_tokens": 8}
    assert config["model"]["model_name"] == "opt-tiny"
    tag = (PUBLISHED / "ds_ckpt/latest").read_text().strip()
    states = PUBLISHED / "ds_ckpt" / tag / "mp_rank_00_model_states.pt"
    state = read_module_state(states, lambda name: "prompt_encoder" in name or "normalizer" in name)
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        **{PROMPT.format(k): (8, 64) for k in range(4)},
        "prompt_normalizer.weight": (64, 64),
        "prompt_normalizer.bias": (64,),
    }
