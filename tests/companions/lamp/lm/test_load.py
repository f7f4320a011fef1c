"""Loading LMs from others: no code of theirs is run."""

import json
import pickle
from pathlib import Path

import pytest
import torch

from companions.lamp.lm.load import load_lm
from companions.lamp.lm.shared_keys import shares_keys
from tests.companions.lamp.lm.made_lms import made
from utils.errors import UserError

STATE = "pytorch_model.bin"


class Trap:
    """Writes a file when it is read without care."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.fixture(params=["t5", "gpt2"])
def saved(request, tmp_path):
    """A tiny LM and its folder."""
    lm = made(request.param)
    lm.save(tmp_path / "lm", dict(lm.model.named_parameters()))
    return lm, tmp_path / "lm"


def test_safetensors_are_read_first(saved, tmp_path):
    """Of both forms the pickled one is that which may be hostile."""
    lm, folder = saved
    (folder / STATE).write_bytes(pickle.dumps(Trap(tmp_path / "trapped")))
    loaded = load_lm(str(folder))
    for name, value in lm.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value), name
    assert not (tmp_path / "trapped").exists()


def test_older_weights_are_read_as_tensors_alone(saved, tmp_path):
    """Many LMs on the hub have a pickle alone: unpickled, it runs what it likes; refused, they could not be used."""
    lm, folder = saved
    (folder / "model.safetensors").unlink()
    torch.save(lm.model.state_dict(), folder / STATE)
    loaded = load_lm(str(folder))
    assert torch.equal(loaded.model.get_input_embeddings().weight, lm.model.get_input_embeddings().weight)
    torch.save({"weight": torch.zeros(1), "trap": Trap(tmp_path / "trapped")}, folder / STATE)
    with pytest.raises(UserError, match="cannot be read") as caught:
        load_lm(str(folder))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "trapped").exists()


def test_an_lm_with_more_layers_than_its_config_names_is_refused(saved):
    """A part of the LM would answer, and be scored, with a table of names on the screen and no error."""
    _, folder = saved
    config = json.loads((folder / "config.json").read_text())
    config |= {key: 1 for key in ("num_layers", "num_decoder_layers", "n_layer") if key in config}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"no layer for, such as \S+\.1\."):
        load_lm(str(folder))


def test_no_code_of_a_folder_is_run(saved, tmp_path):
    """A folder may bring Python files along and name them in its config.json."""
    _, folder = saved
    (folder / "code.py").write_text(f"open({str(tmp_path / 'trapped')!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "code.Own", "AutoModelForCausalLM": "code.Own"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="cannot be read"):
        load_lm(str(folder))
    assert not (tmp_path / "trapped").exists()


def test_what_is_saved_names_no_attention_of_this_project(tmp_path):
    """Another program that reads the folder would look for an attention that it does not have."""
    lm = made("t5")
    assert shares_keys(lm.model)
    lm.save(tmp_path / "lm", dict(lm.model.named_parameters()))
    assert "shared_keys" not in (tmp_path / "lm" / "config.json").read_text()
