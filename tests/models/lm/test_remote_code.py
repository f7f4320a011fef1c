"""The code that a model folder brings along is never run, and nobody is asked whether it may be."""

import ast
import io
import json
import shutil
import sys

import pytest
from transformers import AutoConfig

from models.lm.language_model import load_language_model, load_tokenizer
from tests.test_floors import FILES
from utils.errors import UserError
from utils.metrics.bertscore import _load
from utils.metrics.registry import Unavailable

CODE = """
from pathlib import Path
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast
Path({marker!r}).write_text("the folder's code ran")
class OwnConfig(OPTConfig):
    model_type = "own"
class OwnModel(OPTForCausalLM):
    config_class = OwnConfig
class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""
LOADERS = [load_tokenizer, load_language_model]


@pytest.fixture
def own_code(lm_folder, tmp_path, monkeypatch):
    """own_code(model_type): an LM folder with code of its own, and the file that this code makes when it runs.

    Whoever asks on standard input is told yes, as by a piped chat whose first line begins with it.
    """
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 10))

    def make(model_type):
        folder, marker = tmp_path / "lm", tmp_path / "marker"
        shutil.copytree(lm_folder("opt"), folder)
        (folder / "own.py").write_text(CODE.format(marker=str(marker)), encoding="utf-8")
        (folder / "custom_generate").mkdir()
        (folder / "custom_generate" / "generate.py").write_text(CODE.format(marker=str(marker)), "utf-8")
        config = json.loads((folder / "config.json").read_text("utf-8"))
        classes = {"AutoConfig": "own.OwnConfig", "AutoTokenizer": [None, "own.OwnTokenizer"]}
        classes |= dict.fromkeys(["AutoModel", "AutoModelForCausalLM"], "own.OwnModel")
        config |= {"model_type": model_type, "auto_map": classes}
        (folder / "config.json").write_text(json.dumps(config), "utf-8")
        tokenizer = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
        tokenizer |= {"auto_map": {"AutoTokenizer": [None, "own.OwnTokenizer"]}}
        tokenizer |= {"tokenizer_class": "OwnTokenizer"} if model_type == "own" else {}
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer), "utf-8")
        return folder, marker

    return make


def test_the_code_in_the_test_is_live(own_code):
    """Were it broken, or not found by the library, the tests below would prove nothing."""
    folder, marker = own_code("own")
    AutoConfig.from_pretrained(folder)
    assert marker.exists()


@pytest.mark.parametrize("load", LOADERS)
def test_a_folder_that_needs_its_own_code_is_refused(own_code, make_config, load, capsys):
    """Its author would act with the rights of whoever decodes or chats with the run."""
    folder, marker = own_code("own")
    with pytest.raises(UserError, match="in folder .* cannot be read: ") as caught:
        load(make_config(model={"model_name": str(folder)}).model)
    assert "\n" not in str(caught.value)
    assert "custom code" in str(caught.value)
    assert not marker.exists()
    assert capsys.readouterr().out == ""  # the library asks on the screen
    assert len(sys.stdin.read()) == 20


@pytest.mark.parametrize("load", LOADERS)
def test_a_known_family_is_loaded_by_the_librarys_code(own_code, make_config, load):
    """The folder names code for an LM that the library knows: the library's own is what the run was made with."""
    folder, marker = own_code("opt")
    loaded = load(make_config(model={"model_name": str(folder)}).model)
    assert "own" not in type(getattr(loaded, "model", loaded)).__module__
    assert not marker.exists()
    assert len(sys.stdin.read()) == 20


def test_bertscore_runs_no_code_of_its_models_folder(own_code):
    """--bertscore_model takes a folder, too."""
    folder, marker = own_code("own")
    with pytest.raises(Unavailable, match="cannot load the model"):
        _load(folder, 1)
    assert not marker.exists()
    assert len(sys.stdin.read()) == 20


def test_every_call_that_loads_says_so():
    """Left out, the library asks on standard input and waits, or takes the first piped line for the answer."""
    loaders = {"from_pretrained", "from_config", "pipeline"}
    calls = [
        (path.name, call)
        for path in FILES
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and getattr(call.func, "attr", getattr(call.func, "id", "")) in loaders
    ]
    assert len(calls) >= 5
    for name, call in calls:
        said = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert said.get("trust_remote_code") == "False", f"{name}: {ast.unparse(call)}"
