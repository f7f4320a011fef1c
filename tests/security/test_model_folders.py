"""An LM's folder from somebody else: no code of it runs, nothing leads elsewhere, no small file fills the memory."""

import json
import os
import pickle
import resource
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file

from utils import pretrained_files

WEIGHTS = "model.safetensors"


def test_code_in_a_model_folder_does_not_run(model_folder, tmp_path):
    """`auto_map` names a Python file of the folder, which the library would import where it were trusted."""
    folder, ran = model_folder.folder, tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')\n")
    model_folder.change(
        "config.json",
        auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"},
        trust_remote_code=True,
    )
    model_folder.change(
        "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]}, tokenizer_class="T"
    )
    model_folder.load()
    model_folder.change("config.json", model_type="unheard_of")
    model_folder.fault()
    assert not ran.exists()


@pytest.mark.parametrize("write", [lambda value, path: path.write_bytes(pickle.dumps(value)), torch.save])
def test_pickled_weights_run_no_command(model_folder, evil, write):
    """Weights in the older form are a pickle, which can run any command when it is read."""
    (model_folder.folder / WEIGHTS).unlink()
    write({"model.decoder.embed_tokens.weight": evil}, model_folder.folder / "pytorch_model.bin")
    assert "cannot be read" in model_folder.fault()


def test_an_index_names_files_of_its_folder_only(model_folder, tmp_path):
    """The library joins whatever stands in the index to the folder, and reads weights from there."""
    names = list(load_file(model_folder.folder / WEIGHTS))
    (model_folder.folder / WEIGHTS).rename(tmp_path / "outside.safetensors")
    for name in ("../outside.safetensors", str(tmp_path / "outside.safetensors"), "a.bin", 3):
        index = {"metadata": {}, "weight_map": dict.fromkeys(names, name)}
        (model_folder.folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
        assert "which is no .safetensors" in model_folder.fault()


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json", "config.json"])
def test_a_link_out_of_a_model_folder_is_refused(model_folder, tmp_path, name):
    """An archive with a link in it has any file of its reader read."""
    (model_folder.folder / name).rename(tmp_path / name)
    (model_folder.folder / name).symlink_to(tmp_path / name)
    assert "leads out of its folder" in model_folder.fault()
    assert "leads out of its folder" in model_folder.tokenizer_fault()


def test_the_links_of_the_hubs_cache_are_read(model_folder):
    """The cache keeps each file once under `blobs`: refused, no LM from the hub could be given by its folder."""
    snapshot = model_folder.folder.parent / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (model_folder.folder.parent / "blobs").mkdir()
    for path in model_folder.folder.iterdir():
        path.rename(model_folder.folder.parent / "blobs" / path.name)
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    model_folder.folder.rmdir()
    snapshot.rename(model_folder.folder.parent / "snapshots" / "lm")
    model_folder.settings = model_folder.settings.model_copy(
        update={"model_name": str(model_folder.folder.parent / "snapshots" / "lm")}
    )
    model_folder.load()


def test_an_adapter_in_a_model_folder_is_refused(model_folder, evil):
    """The library would load it without a word, on top of the weights, and its own file may be a pickle."""
    model_folder.change("adapter_config.json", peft_type="LORA", base_model_name_or_path="/etc", r=2)
    torch.save({"a": evil}, model_folder.folder / "adapter_model.bin")
    assert "adapter_config.json" in model_folder.fault()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_kernels_of_the_hub_are_refused(model_folder, key):
    """Where the package `kernels` is installed, the library downloads the named repository and runs its code."""
    model_folder.change("config.json", **{key: "somebody/attention"})
    assert "would run code of the hub" in model_folder.fault()


@pytest.mark.parametrize("method", ["mxfp4", "fp8", "gptq"])
def test_quantised_weights_are_refused(model_folder, method):
    """For MXFP4 and others the library fetches kernels that the folder does not even name."""
    model_folder.change("config.json", quantization_config={"quant_method": method})
    assert f"weights quantised by '{method}' are not supported" in model_folder.fault()


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 10**9},
        {"num_labels": 10**9},
        {"model_type": "gpt_neo", "attention_types": [[["global"], 10**9]]},
        {"vocab_size": 10**10},
        {"hidden_size": 10**6, "word_embed_proj_dim": 10**6, "ffn_dim": 10**6},
        {"max_position_embeddings": 10**9},
    ],
    ids=lambda changes: next(reversed(changes)),
)
def test_a_small_model_folder_takes_little_memory(model_folder, changes):
    """A config.json of one kB that asks for a thousand billion numbers ends the machine's other programs."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model_folder.change("config.json", **changes)
    save_file({"x": torch.zeros(1)}, model_folder.folder / WEIGHTS)  # what is missing would be drawn
    assert "config.json" in model_folder.fault()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_compressed_weights_are_refused(model_folder):
    """Zeros take a thousandth of their size in a compressed archive, and all of it in memory."""
    (model_folder.folder / WEIGHTS).unlink()
    with zipfile.ZipFile(model_folder.folder / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 20))
    assert "compressed" in model_folder.fault()


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.txt", "generation_config.json"])
def test_large_and_endless_files_of_a_model_folder(model_folder, name):
    """A sparse file of a terabyte takes no disk, and a pipe no memory: the library waits for it for ever."""
    path = model_folder.folder / name
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(pretrained_files.LARGEST_FILE + 1)
    assert f"{name} has more than" in model_folder.tokenizer_fault()
    path.unlink()
    os.mkfifo(path)
    assert f"{name} is no plain file" in model_folder.tokenizer_fault()


@pytest.mark.parametrize("name", ["../tokenizer.1.0.json", "/etc/tokenizer.1.0.json"])
def test_a_tokenizer_is_read_from_its_folder_only(model_folder, tmp_path, name):
    """The library takes the named file for the tokenizer, wherever it lies."""
    (model_folder.folder / "tokenizer.json").rename(tmp_path / "tokenizer.1.0.json")
    model_folder.change("tokenizer_config.json", fast_tokenizer_files=[name])
    assert "of its own folder" in model_folder.tokenizer_fault()


def test_a_path_in_a_tokenizers_settings_is_not_opened(model_folder, tmp_path):
    """`vocab_file` and its like were once opened as they stand."""
    (model_folder.folder / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    outside = str(tmp_path / "tokenizer.json")
    model_folder.change("tokenizer_config.json", tokenizer_file=outside, vocab_file=outside)
    assert "cannot be read" in model_folder.tokenizer_fault()


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a": ' * 100_000, "[]", "{", '{"a": ' + "1" * 10_000 + "}"]
)
def test_settings_that_are_no_settings(model_folder, text):
    """Brackets without end, or a number of 10,000 digits, end in a traceback of the library."""
    for name in ("config.json", "tokenizer_config.json"):
        kept = (model_folder.folder / name).read_bytes()
        (model_folder.folder / name).write_text(text)
        assert "cannot be read" in model_folder.fault()
        (model_folder.folder / name).write_bytes(kept)
