"""Weights as they lie on the hub: GPT-2's shape, the tokenizer in the form of earlier releases of transformers."""

import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import save_file

from companions.personagpt.model import build_personagpt
from companions.personagpt.tokens import ADDED, TextEncoder, make_tokenizer, special_ids
from dataset.batch import Collator
from models.lm.language_model import load_language_model
from tests.companions.personagpt.golden import GOLDEN, content
from tests.companions.personagpt.training import PAD, encoded, golden_config
from utils.errors import UserError

EOS = "<|endoftext|>"
ACTIONS = content(GOLDEN / "actions" / "expected.json")
LOSSES = content(GOLDEN / "losses" / "expected.json")


def config_json(lm):
    """A config.json as transformers 4 wrote it."""
    size = lm.config
    return {
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "bos_token_id": PAD,
        "eos_token_id": PAD,
        "gradient_checkpointing": False,
        "model_type": "gpt2",
        "n_ctx": size.n_positions,
        "n_embd": size.n_embd,
        "n_head": size.n_head,
        "n_inner": None,
        "n_layer": size.n_layer,
        "n_positions": size.n_positions,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "summary_type": "cls_index",
        "torch_dtype": "float32",
        "transformers_version": "4.10.3",
        "use_cache": True,
        "vocab_size": size.vocab_size,
    }


def write_old_tokenizer(folder):
    """vocab.json, merges.txt and three small files; there is no tokenizer.json."""
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(GOLDEN / "base_tokenizer" / name, folder / name)
    files = {
        "added_tokens.json": {token: 50257 + place for place, token in enumerate(ADDED)},
        "special_tokens_map.json": {
            **{f"{name}_token": EOS for name in ("bos", "eos", "unk", "pad")},
            "sep_token": ADDED[0],
            "cls_token": ADDED[1],
            "additional_special_tokens": list(ADDED[2:]),
        },
        "tokenizer_config.json": {
            "unk_token": EOS,
            "bos_token": EOS,
            "eos_token": EOS,
            "add_prefix_space": False,
            "model_max_length": 1024,
            "tokenizer_class": "GPT2Tokenizer",
        },
    }
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture(scope="module")
def golden_lm():
    """The golden LM."""
    return load_language_model(golden_config().model).model


@pytest.fixture(params=["model.safetensors", "pytorch_model.bin"])
def published(request, golden_lm, tmp_path):
    """A folder of the published form with the golden LM's weights, in either kind of file."""
    (tmp_path / "config.json").write_text(json.dumps(config_json(golden_lm)), encoding="utf-8")
    state = {name: value.detach().clone() for name, value in golden_lm.state_dict().items()}
    if request.param.endswith(".bin"):
        for layer in range(golden_lm.config.n_layer):  # constants that were kept among the weights
            mask = torch.tril(torch.ones(1024, 1024, dtype=torch.uint8))[None, None]
            state[f"transformer.h.{layer}.attn.bias"] = mask
            state[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
        torch.save(state, tmp_path / request.param)
    else:
        del state["lm_head.weight"]
        save_file(state, tmp_path / request.param, metadata={"format": "pt"})
    write_old_tokenizer(tmp_path)
    return tmp_path


def test_a_published_folder_loads_with_its_ids_and_numbers(published):
    """Tokens that are added once more have other ids: the LM would read rows that were never trained."""
    config = golden_config(model={"model_name": str(published)})
    tokenizer = make_tokenizer(config.model)
    ids, expected = special_ids(tokenizer), ACTIONS["special_ids"]
    found = {name: getattr(ids, name) for name in ("eos", "sep", "start", "p1", "p2", "act")}
    assert found == {name: expected[name] for name in found}
    assert len(tokenizer) == 50263
    assert TextEncoder(tokenizer)("ask about hobbies.") == [2093, 546, 45578, 13]
    model = build_personagpt(config, tokenizer).eval()
    assert (model.rows_added, model.text_limit(0)) == (0, 1024)
    pairs = content(GOLDEN / "preprocess" / "dialogues.release.json")
    row = next(row for row in LOSSES["per_example"] if "release_train_step_loss" in row)
    with torch.no_grad():
        loss = model(Collator(PAD).train(encoded([pairs[row["index"]]], first_token=False))).total
    assert loss.item() == pytest.approx(row["release_train_step_loss"], abs=1e-4)


@pytest.mark.parametrize("published", ["pytorch_model.bin"], indirect=True)
def test_weights_that_would_run_code_are_refused(published):
    """A pickle from the hub that is read as such runs whatever its author likes."""

    class Code:
        """Runs a function when it is unpickled."""

        def __reduce__(self):
            """Makes a file."""
            return open, (str(published / "made"), "w")

    with (published / "pytorch_model.bin").open("wb") as file:
        pickle.dump({"lm_head.weight": Code()}, file, protocol=2)
    config = golden_config(model={"model_name": str(published)})
    with pytest.raises(UserError, match="cannot be read") as caught:
        build_personagpt(config, make_tokenizer(config.model))
    assert "\n" not in str(caught.value)
    assert not (published / "made").exists()


def test_a_base_lm_gets_the_missing_rows(golden_lm, tmp_path):
    """DialoGPT has no special tokens: their ids would be beyond its table."""
    config = json.loads((GOLDEN / "lm" / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": 50257}), encoding="utf-8")
    state = {name: value.detach().clone() for name, value in golden_lm.state_dict().items()}
    del state["lm_head.weight"]
    state["transformer.wte.weight"] = state["transformer.wte.weight"][:50257].clone()
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    write_old_tokenizer(tmp_path)
    for name in ("added_tokens.json", "special_tokens_map.json"):
        (tmp_path / name).unlink()
    given = golden_config(model={"model_name": str(tmp_path)})
    torch.manual_seed(1)
    model = build_personagpt(given, make_tokenizer(given.model))
    table = model.lm.embedding_weight.detach()
    assert (model.rows_added, table.shape[0]) == (6, 50263)
    assert torch.equal(table[:50257], state["transformer.wte.weight"])
    assert 0.01 < table[50257:].std().item() < 0.03
    assert abs(table[50257:].mean().item()) < 0.01
    assert model.lm.head_weight is model.lm.embedding_weight


def test_a_tokenizer_of_another_lm_is_told(monkeypatch):
    """An id beyond the table would be an index error in the middle of the first step."""
    config = golden_config()
    tokenizer = make_tokenizer(config.model)
    vocabulary = {**tokenizer.get_vocab(), ADDED[-1]: 90000}
    monkeypatch.setattr(tokenizer, "get_vocab", lambda: vocabulary)
    with pytest.raises(UserError, match=r"the tokenizer gives <\|act\|> the id 90000, but has 50263 tokens"):
        build_personagpt(config, tokenizer)
