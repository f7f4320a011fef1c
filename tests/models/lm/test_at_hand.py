"""Where a base LM is; each fault is planted. Nothing here reaches the hub."""

import json
import shutil
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi

from models.lm.at_hand import BaseLM, folder_faults


def only(name):
    """The one finding about a base LM, and the LM."""
    lm = BaseLM(name)
    (finding,) = lm.findings()
    return finding, lm


def test_a_folder_is_found(lm_folder):
    """An LM that is there and called missing sends people to download gigabytes."""
    finding, lm = only(str(lm_folder("opt")))
    assert (finding.status, lm.folder, lm.to_download) == ("ok", lm_folder("opt"), 0)
    assert only(None)[0].status == "ok"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (lambda folder: (folder / "model.safetensors").unlink(), "it has no weights"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "it has no tokenizer"),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text(
                json.dumps({"weight_map": {"a": "part-2.safetensors", "b": "model.safetensors"}})
            ),
            "1 part(s) of the weights are missing, such as part-2.safetensors",
        ),
        (lambda folder: (folder / "model.safetensors.index.json").write_text("[]"), "cannot be read"),
    ],
)
def test_what_a_folder_lacks_is_named(lm_folder, tmp_path, fault, words):
    """A half-copied folder: the library says what it lacks in fifty lines, after minutes."""
    folder = shutil.copytree(lm_folder("opt"), tmp_path / "lm")
    assert folder_faults(folder) == []
    fault(folder)
    finding, lm = only(str(folder))
    assert (finding.status, lm.folder) == ("FAIL", None)
    assert words in finding.text
    assert "--set model.model_name=FOLDER" in finding.text


def test_a_missing_model_without_hub_fails(monkeypatch):
    """A model that cannot be had is found out after the data was read, and a minute of tries."""

    def away(*_, **given):
        assert given["timeout"] <= 5
        raise OSError("no route")

    monkeypatch.setattr(HfApi, "model_info", away)
    finding, lm = only("nobody/no-such-model")
    assert (finding.status, lm.folder, lm.to_download) == ("FAIL", None, 0)
    assert "no route" in finding.text
    assert only("not a name at all !")[0].status == "FAIL"


def test_of_the_hub_only_the_size_is_asked(monkeypatch):
    """A check that downloads the weights is no check: it fills the disk that it is to look at."""
    files = {"model.safetensors": 3 * 2**20, "pytorch_model.bin": 9 * 2**20, "config.json": 5}
    siblings = [SimpleNamespace(rfilename=name, size=count) for name, count in files.items()]
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: SimpleNamespace(siblings=siblings))
    finding, lm = only("nobody/no-such-model")
    assert (finding.status, lm.to_download) == ("ok", 3 * 2**20)
    assert "3 MiB will be downloaded" in finding.text
