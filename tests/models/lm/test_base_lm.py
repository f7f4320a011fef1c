"""Base LMs: made from scratch, loaded from a folder, and refused with one line that says what to do."""

import json
import shutil

import huggingface_hub.constants
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from models.configuration import build_config
from models.lm import language_model
from models.lm.base_lm import train_tokenizer
from models.lm.language_model import LanguageModel, base_lm_folder, load_language_model, load_tokenizer
from models.registry import build_model, build_tokenizer
from models.settings import LMSettings
from tests.conftest import FAMILIES
from tests.helpers import train_batch
from utils.errors import UserError

INIT = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 300, "max_positions": 384}


@pytest.fixture
def scratch(data):
    """scratch("llama") is a configuration of an LM to be made."""

    def make(architecture="opt"):
        init = INIT | {"architecture": architecture}
        model = {"model_type": "language_model", "init": init}
        return build_config([("test", {"model": model, "dataset": {"train": str(data["train"])}})])

    return make


@pytest.mark.parametrize(
    "text", ["i like to ski .", "Q: hello  there\n", "ünïcödé ☃ 日本 🙂", " given persona: "]
)
def test_the_tokenizer_gives_back_every_text(scratch, text):
    """Byte level means that no character is lost, seen in training or not; a lost one cannot be generated."""
    tokenizer = train_tokenizer(scratch())
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids) == text


def test_the_tokenizer_has_its_special_tokens(scratch):
    """pad == eos would leave the end of a response untrained in the release's arithmetic."""
    tokenizer = train_tokenizer(scratch())
    assert tokenizer.is_fast
    assert len(tokenizer) == 300
    special = [tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id]
    assert special == [0, 1, 2]
    assert tokenizer.decode([1, *tokenizer("ski", add_special_tokens=False).input_ids, 2], True) == "ski"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_architecture_is_made_and_trains(scratch, family, examples):
    """A size that one family reads under another name would silently be that family's default of millions."""
    config = scratch(family)
    tokenizer = build_tokenizer(config)
    model = build_model(config, tokenizer)
    lm_config = model.lm.model.config
    assert (lm_config.hidden_size, lm_config.num_hidden_layers, lm_config.num_attention_heads) == (16, 1, 2)
    assert (model.lm.width, model.lm.max_positions, model.lm.head_weight.shape) == (16, 384, (300, 16))
    assert (lm_config.bos_token_id, lm_config.eos_token_id, lm_config.pad_token_id) == (1, 2, 0)
    assert all(parameter.requires_grad for parameter in model.parameters())
    batch = train_batch(model, examples[:3])
    logits = model.lm.model(input_ids=batch.input_ids).logits
    assert logits.shape == (*batch.input_ids.shape, 300)
    output = model(batch)
    predicted = logits[batch.target_rows, batch.target_positions]
    torch.testing.assert_close(output.total, nn.functional.cross_entropy(predicted, batch.target_ids))
    output.total.backward()
    assert model.lm.head_weight.grad.abs().max() > 0


def test_a_head_with_a_bias_is_refused(lm_folder):
    """The cross-entropy multiplies by the head's weight only: the bias would be left out without a word."""
    model = AutoModelForCausalLM.from_pretrained(lm_folder("gpt2"))
    model.lm_head = nn.Linear(32, 400, bias=True)
    with pytest.raises(UserError, match="linear head without bias"):
        LanguageModel(model)


@pytest.mark.parametrize(
    ("bits", "dtype"), [(32, torch.float32), (16, torch.float16), ("bf16", torch.bfloat16)]
)
def test_load_bit_is_the_precision_of_the_lm(make_config, bits, dtype):
    """A 7B model in float32 instead of 16 bits does not fit where it should."""
    lm = load_language_model(make_config("opt", model={"load_bit": bits}).model)
    assert {parameter.dtype for parameter in lm.parameters()} == {dtype}


def test_a_run_of_a_base_lm_stands_for_its_lm(make_config, lm_folder, tmp_path):
    """model_name may be the run folder that train.py printed; the LM lies inside it."""
    shutil.copytree(lm_folder("opt"), base_lm_folder(tmp_path))
    config = make_config("opt", model={"model_name": str(tmp_path)}).model
    assert len(load_tokenizer(config)) == 400
    lm, original = load_language_model(config), load_language_model(make_config("opt").model)
    assert torch.equal(lm.head_weight, original.head_weight)


@pytest.mark.parametrize(("load", "what"), [(load_tokenizer, "tokenizer"), (load_language_model, "base LM")])
def test_a_name_that_cannot_be_reached_says_how_to_give_a_folder(make_config, monkeypatch, load, what):
    """The libraries end in forty lines about connections; what helps is the key and a local folder."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as caught:
        load(make_config("opt", model={"model_name": "nobody/nothing-7b"}).model)
    message = str(caught.value)
    assert message.startswith(f"{what} 'nobody/nothing-7b'")
    assert "--set model.model_name=FOLDER" in message
    assert "\n" not in message


def test_a_folder_that_does_not_exist_says_so_too(make_config, tmp_path):
    """A mistyped path looks like a hub name with too many slashes."""
    name = str(tmp_path / "not" / "there")
    with pytest.raises(UserError, match="neither a local folder nor reachable") as caught:
        load_language_model(make_config("opt", model={"model_name": name}).model)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("load", [load_tokenizer, load_language_model])
def test_a_type_that_stands_on_no_lm_says_so(load):
    """A new type that makes its LM but forgets `make_tokenizer` would end in the library's own words about None."""
    with pytest.raises(UserError, match="model_type of_another_module has no base LM"):
        load(LMSettings(model_type="of_another_module"))


def empty(folder):
    """Nothing is left."""
    for path in folder.iterdir():
        path.unlink()


def cut_weights(folder):
    """A download that ended early."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def unknown_type(folder):
    """A family that no library knows."""
    (folder / "config.json").write_text(json.dumps({"model_type": "perceptron"}))


def no_json(folder):
    """Half a configuration."""
    (folder / "config.json").write_text('{"model_type": ')


@pytest.mark.parametrize("damage", [empty, cut_weights, unknown_type, no_json])
def test_a_broken_folder_is_named_in_one_line(make_config, lm_folder, tmp_path, damage):
    """A traceback from inside a library does not say which of the folders on disk is broken."""
    folder = tmp_path / "lm"
    shutil.copytree(lm_folder("opt"), folder)
    damage(folder)
    with pytest.raises(UserError) as caught:
        load_language_model(make_config("opt", model={"model_name": str(folder)}).model)
    assert str(caught.value).startswith(f"base LM in folder {folder} cannot be read: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tokenizer_missing_from_its_folder_is_named(make_config, lm_folder, tmp_path, family):
    """Some exports hold weights only; for some families the library then makes a tokenizer of no words."""
    shutil.copy(lm_folder(family) / "config.json", tmp_path)
    with pytest.raises(UserError) as caught:
        load_tokenizer(make_config("opt", model={"model_name": str(tmp_path)}).model)
    assert str(caught.value).startswith(f"tokenizer in folder {tmp_path} cannot be read: ")
    assert "\n" not in str(caught.value)


def test_an_unknown_model_type_is_an_error_with_the_nearest_name(make_config):
    """A typo must not fall back to some default method."""
    with pytest.raises(UserError, match=r"model_type = 'selective_tp'; did you mean 'selective_pt'\?"):
        build_config([("here", {"model": {"model_type": "selective_tp"}})])


def test_an_unreachable_hub_is_asked_once(make_config, monkeypatch):
    """transformers retries every file for most of a minute, and prints each try, before the one line."""
    seen = []

    def unreachable(*_args, **_kwargs):
        raise OSError("no route")

    def record(_source, local_files_only, **_options):
        seen.append(local_files_only)
        raise OSError("not cached")

    monkeypatch.setattr(language_model.HfApi, "model_info", unreachable)
    monkeypatch.setattr(language_model.AutoTokenizer, "from_pretrained", record)
    with pytest.raises(UserError, match="some/model"):
        language_model.load_tokenizer(make_config("opt", model={"model_name": "some/model"}).model)
    assert seen == [True]
