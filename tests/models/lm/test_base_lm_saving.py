"""The files of a new base LM: what Hugging Face's library writes of the LM itself."""

import json

import pytest
import torch
from safetensors.torch import load, load_file
from transformers import AutoModelForCausalLM

from models.lm.language_model import save_language_model
from models.registry import build_model, build_tokenizer
from tests.conftest import FAMILIES
from tests.helpers import train
from trainer.checkpoints import save_trained
from utils.errors import UserError

INIT = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 300, "max_positions": 512}


@pytest.fixture
def new_lm(make_config):
    """new_lm(family, precision): the configuration of an LM to be made."""

    def make(family, precision=32):
        init = INIT | {"architecture": family}
        model = {"model_type": "language_model", "load_bit": precision, "init": init}
        return make_config(model=model, training={"training_ratio": 0.2})

    return make


def _content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", [32, "bf16"])
def test_the_folder_is_the_librarys_own(new_lm, tmp_path, distributed, family, precision):
    """A name or a precision of our own making: other programs would find random weights in their place."""
    config = new_lm(family, precision)
    model = build_model(config, build_tokenizer(config))
    save_trained(model, tmp_path, distributed, {})
    model.lm.model.save_pretrained(tmp_path / "wanted")
    model.tokenizer.save_pretrained(tmp_path / "wanted")
    found, wanted = _content(tmp_path / "model"), _content(tmp_path / "wanted")
    generation = json.loads(found.pop("generation_config.json"))
    assert wanted.pop("generation_config.json")
    assert found == wanted
    assert generation["eos_token_id"] == model.tokenizer.eos_token_id
    assert {path.name for path in tmp_path.iterdir()} == {"model", "wanted"}


def test_other_programs_stop_at_eos(new_lm, tmp_path):
    """An LM that is talked to with the library alone would go on after each reply, up to its last position."""
    config = new_lm("gpt2")
    model = build_model(config, build_tokenizer(config))
    model.save_trained(tmp_path, model.trained_state(), {})
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model").generation_config
    assert loaded.eos_token_id == model.tokenizer.eos_token_id
    assert loaded.pad_token_id == model.tokenizer.pad_token_id


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_that_are_one_are_written_once_and_stay_one(new_lm, tmp_path, distributed, family):
    """A head of its own is other weights after the next step of a training, and a larger file."""
    config = new_lm(family)
    model = build_model(config, build_tokenizer(config))
    model.save_trained(tmp_path, model.trained_state(), {})
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert len(stored) == len(list(model.lm.model.parameters()))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight
    for name, value in model.lm.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


@pytest.mark.parametrize("precision", [32, "bf16"])
def test_the_state_is_what_is_saved(new_lm, tmp_path, precision):
    """The module's own, rounded values instead of the state's would be saved where a training keeps float32 ones."""
    config = new_lm("gpt2", precision)
    model = build_model(config, build_tokenizer(config))
    state = {name: value.float() + 1 for name, value in model.trained_state().items()}
    save_language_model(tmp_path, model.lm, model.tokenizer, state | {"another.part": torch.zeros(1)})
    stored = load_file(tmp_path / "model" / "model.safetensors")
    for name, parameter in model.lm.model.named_parameters():
        assert torch.equal(stored[name], state[f"lm.model.{name}"].to(parameter.dtype)), name


@pytest.mark.slow
@pytest.mark.parametrize("precision", [32, "bf16"])
def test_every_stage_writes_the_same_folder(new_lm, distributed, tmp_path, precision):
    """At stage 3 the module's own parameters are empty, and in half precision they are rounded ones."""
    folders = {}
    for stage in (2, 3):
        ds_config = tmp_path / f"{stage}.json"
        # so that DeepSpeed does not keep parameters as small as these whole
        names = ("param_persistence_threshold", "max_live_parameters", "max_reuse_distance")
        zero = {"stage": stage} | {f"stage3_{name}": 0 for name in names}
        ds_config.write_text(json.dumps({"zero_optimization": zero}), encoding="utf-8")
        run = train(new_lm("opt", precision), distributed, f"stage{stage}", str(ds_config))
        folders[stage] = _content(run / "model")
    second, third = (load(folders[stage].pop("model.safetensors")) for stage in (2, 3))
    assert folders[2] == folders[3]
    assert {name: value.shape for name, value in third.items()} == {
        name: value.shape for name, value in second.items()
    }
    both = [torch.cat([state[name].flatten() for name in sorted(state)]) for state in (second, third)]
    # in half precision the stages round gradients at other places, and Adam makes whole steps of what should be zero
    least, limits = (1.0, (0, 0)) if precision == 32 else (0.98, (2**-6, 2**-10))
    assert torch.isclose(*both, *limits).float().mean() >= least
    kinds = {tensor.dtype for tensor in third.values()}
    assert kinds == {torch.float32 if precision == 32 else torch.bfloat16}


def test_a_base_lm_is_not_a_starting_point_of_another(new_lm, distributed):
    """`--ckpt_path` of such a run asked for tensors that it never has, as if its folder were damaged."""
    with pytest.raises(
        UserError, match="use model_type full_finetuning with --set model.model_name=some/run"
    ):
        train(new_lm("opt"), distributed, "again", ckpt_path="some/run")
