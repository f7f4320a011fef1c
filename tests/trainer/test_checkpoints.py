"""What a run leaves behind can be read again, by us and by PEFT, and cannot run code."""

import hashlib
import json
import pickle
import shutil
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from models import trained_part
from models.decoding.runs import load_run, read_run_config
from models.lm.language_model import weights_sha256
from models.spt import export
from models.spt.export import export_run
from models.trained_part import read_trained
from tests.conftest import config_for
from tests.helpers import BareEngine, logged, model_of, train, train_batch
from trainer import checkpoints
from trainer.validation import validate
from utils.errors import UserError
from utils.runs import find_runs


def _load(run, *assignments):
    return load_run(run, read_run_config(run, list(assignments)))


def test_a_loaded_run_is_the_trained_model(trained_run, data, distributed):
    """Prompts of another order or of another epoch give other losses than the validation that chose them."""
    from models.reading import make_loader

    model = _load(trained_run)
    loader = make_loader(str(data["valid"]), model.tokenizer, model.config, train=False, max_tokens=380)
    best = min(row["total"] for row in logged(trained_run, "valid_epoch"))
    assert validate(BareEngine(model), loader, distributed)["total"] == pytest.approx(best, rel=1e-5)
    assert not model.training


def test_the_best_checkpoint_holds_what_the_trained_part_holds(trained_run):
    """Two files of one run that disagree: a run that goes on would start from other weights than those decoded."""
    state, source = read_trained(trained_run)
    assert source == trained_run / "trained.safetensors"
    tag = (trained_run / "ds_ckpt/best").read_text().strip()
    twin = load_file(trained_run / f"ds_ckpt/{tag}.safetensors")
    assert all(torch.equal(twin[f"value/{name}"], state[name]) for name in state)


def test_a_run_stopped_before_its_first_validation_says_how_to_go_on(run_copy):
    """`no checkpoint; train it first` would have a checkpoint of hours thrown away."""
    for path in (run_copy / "trained.safetensors", run_copy / "trained.json", run_copy / "ds_ckpt/best"):
        path.unlink()
    with pytest.raises(UserError, match=r"no trained part yet.*--resume="):
        read_trained(run_copy)


def test_a_folder_with_the_older_names_loads_and_is_trained_on(run_copy, trained_run, data, distributed):
    """Every run folder made so far calls its trained part soft_prompts; its replies and its use as a start stay."""
    shutil.rmtree(run_copy / "ds_ckpt")
    for ending in ("safetensors", "json"):
        (run_copy / f"trained.{ending}").rename(run_copy / f"soft_prompts.{ending}")
    assert find_runs(run_copy) == [run_copy]
    model, wanted = _load(run_copy), _load(trained_run)
    assert torch.equal(model.soft_prompts.weight, wanted.soft_prompts.weight)
    assert torch.equal(model.retriever.linear.weight, wanted.retriever.linear.weight)
    settings = {"learning_rate": 1e-9, "training_ratio": 0.1, "log_dir": str(run_copy / "runs")}
    config = config_for(data, Path(model.config.model.model_name), run_copy, {"training": settings})
    run = train(config, distributed, "again", None, str(run_copy))
    names = {path.name for path in run.iterdir()}
    assert {"trained.safetensors", "trained.json"} < names
    assert not any(name.startswith("soft_prompts") for name in names)
    after = load_file(run / "trained.safetensors")
    torch.testing.assert_close(after["soft_prompts.weight"], wanted.soft_prompts.weight, atol=1e-7, rtol=0)


def test_a_run_without_checkpoint_says_what_to_do(run_copy):
    """A run of --save_model=no, or one that was stopped in its first epoch."""
    shutil.rmtree(run_copy / "ds_ckpt")
    (run_copy / "trained.safetensors").unlink()
    with pytest.raises(UserError) as caught:
        _load(run_copy)
    assert str(caught.value) == (
        f"{run_copy}: no checkpoint (trained.safetensors or "
        "ds_ckpt/best/mp_rank_00_model_states.pt); train it first"
    )


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            "model.K=2",
            r"'soft_prompts.weight' has shape \[3, 4, 32\], the configuration asks for \[2, 4, 32\]",
        ),
        ("model.peft_config.num_virtual_tokens=5", r"asks for \[3, 5, 32\]"),
        ("model.normalizer=null", "'retriever.linear.bias' has no place in this configuration's model"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named_in_one_line(trained_run, assignment, message):
    """A half-loaded model decodes fluently and wrongly."""
    with pytest.raises(UserError, match=message) as caught:
        _load(trained_run, assignment)
    assert str(caught.value).startswith(f"{trained_run / 'trained.safetensors'}: ")
    assert "\n" not in str(caught.value)


def test_a_run_is_of_its_own_model_type(trained_run):
    """Keys that another type does not have would be dropped, and random weights decoded."""
    with pytest.raises(UserError, match="model_type prefix_tuning has no such key"):
        _load(trained_run, "model.model_type=prefix_tuning")


def test_a_folder_without_config_is_no_run(tmp_path):
    """`--model_path` of a folder one level too deep."""
    with pytest.raises(UserError, match="neither config.yml nor checkpoint_best.pth is here; is it a run"):
        read_run_config(tmp_path, [])


def test_a_typo_in_a_saved_config_is_found(run_copy):
    """A config.yml that somebody edited is checked like any other."""
    path = run_copy / "config.yml"
    path.write_text(path.read_text(encoding="utf-8").replace("  K: 3", "  k: 3"), encoding="utf-8")
    with pytest.raises(UserError, match=r"config\.yml: unknown key 'model\.k'; did you mean 'K'\?"):
        read_run_config(run_copy, [])


@pytest.mark.parametrize("damage", [lambda raw: raw[:-100], lambda raw: b"", lambda raw: b"\x80" + raw])
def test_a_damaged_safetensors_file_is_one_line(run_copy, damage):
    """A copy that was cut short is an error, never a silent step to the DeepSpeed file beside it."""
    path = run_copy / "trained.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="trained.safetensors: not a readable safetensors file: ") as caught:
        read_trained(run_copy)
    assert "\n" not in str(caught.value)


def _released(run):
    """The run as the authors' code would have left it: DeepSpeed's file in place of safetensors."""
    state = load_file(run / "trained.safetensors")
    shutil.rmtree(run / "ds_ckpt")
    (run / "trained.safetensors").unlink()
    (run / "ds_ckpt/best").mkdir(parents=True)
    torch.save({"module": state}, run / "ds_ckpt/best/mp_rank_00_model_states.pt")


@pytest.mark.parametrize("tag", ["../../elsewhere", "", "/etc"])
def test_a_tag_that_leaves_the_folder_is_refused(run_copy, tag):
    """ds_ckpt/latest of a run from elsewhere is data; it may not point out of the run."""
    _released(run_copy)
    (run_copy / "ds_ckpt/best").rename(run_copy / "ds_ckpt/other")
    (run_copy / "ds_ckpt/latest").write_text(tag, encoding="utf-8")
    with pytest.raises(UserError, match="is not the name of a checkpoint"):
        read_trained(run_copy)


def test_a_planted_pickle_is_not_run(run_copy, tmp_path):
    """A run folder that came by mail: its DeepSpeed file must not execute what it names."""
    _released(run_copy)
    states = run_copy / "ds_ckpt/best/mp_rank_00_model_states.pt"

    class Planted:
        def __reduce__(self):
            return (open, (str(tmp_path / "planted"), "w"))

    torch.save({"module": {"soft_prompts.weight": Planted()}}, states)
    with pytest.raises(UserError, match="nothing was executed"):
        read_trained(run_copy)
    assert not (tmp_path / "planted").exists()


def test_no_file_of_a_run_is_a_pickle(trained_run):
    """A run folder that is passed on can be read without running what it holds: JSON, YAML and safetensors."""
    for path in trained_run.rglob("*"):
        if path.is_file():
            assert not zipfile.is_zipfile(path), path
            assert path.read_bytes()[:2] != pickle.PROTO + b"\x02", path


def test_the_metadata_says_what_one_must_know(trained_run, data, lm_folder):
    """Prompts without the hash of their LM, or of their data, belong to nothing."""
    metadata = json.loads((trained_run / "trained.json").read_text(encoding="utf-8"))
    best = min(logged(trained_run, "valid_epoch"), key=lambda row: row["total"])
    digest = metadata.pop("base_model_sha256")
    assert len(digest) == 64
    libraries = ("torch", "transformers", "deepspeed", "tokenizers", "safetensors")
    assert metadata == {
        "model_type": "selective_pt",
        "base_model": str(lm_folder("opt")),
        "K": 3,
        "V": 4,
        "D": 32,
        "fidelity": "paper",
        "train": str(data["train"]),
        "train_sha256": hashlib.sha256(data["train"].read_bytes()).hexdigest(),
        "valid": str(data["valid"]),
        "valid_sha256": hashlib.sha256(data["valid"].read_bytes()).hexdigest(),
        "seed": 3407,
        "versions": {library: version(library) for library in libraries},
        "best_by": "total validation loss",
        "validation_loss": best["total"],
        "steps": best["step"],
    }


def test_the_hash_of_the_lm_follows_its_files(trained_run, lm_folder, tmp_path):
    """A hash that another LM shares would call every fine-tuned LM by the base's name."""
    metadata = json.loads((trained_run / "trained.json").read_text(encoding="utf-8"))
    files = sorted(lm_folder("opt").glob("*.safetensors"))
    assert (
        metadata["base_model_sha256"]
        == hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    )
    (tmp_path / "model.safetensors").write_bytes(files[0].read_bytes()[:-1] + b"x")
    assert weights_sha256(str(tmp_path)) != metadata["base_model_sha256"]


def test_peft_puts_an_exported_prompt_in_front_like_we_do(trained_run, lm_folder, tmp_path, examples):
    """An adapter that PEFT loads and that says something else than the run it came from."""
    folders = export_run(trained_run, tmp_path / "peft")
    assert [folder.name for folder in folders] == ["prompt_0", "prompt_1", "prompt_2"]
    model = _load(trained_run)
    ids = train_batch(model, examples[:1]).input_ids
    for index, folder in enumerate(folders):
        assert {path.name for path in folder.iterdir()} == {
            "adapter_config.json",
            "adapter_model.safetensors",
        }
        base = AutoModelForCausalLM.from_pretrained(lm_folder("opt"))
        theirs = PeftModel.from_pretrained(base, folder).eval()
        prompt = model.soft_prompts.weight[index : index + 1]
        with torch.no_grad():
            logits = theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            ours = model.lm.hidden(torch.cat([prompt, model.lm.embed(ids)], dim=1)) @ model.lm.head_weight.T
        torch.testing.assert_close(logits, ours, atol=1e-5, rtol=1e-5)


def test_export_of_a_parent_of_several_runs_is_refused(trained_run, tmp_path, monkeypatch):
    """The first one's prompts under the name of another run: nothing in an adapter says which it came from."""
    for name in ("b", "a"):
        shutil.copytree(trained_run, tmp_path / name)
    monkeypatch.setattr(sys, "argv", ["export", f"--model_path={tmp_path}"])
    with pytest.raises(UserError) as caught:
        export.main()
    message = f"--model_path {tmp_path} holds 2 runs: give one of them, such as {tmp_path / 'a'}"
    assert str(caught.value) == message
    assert not (tmp_path / "a" / "peft").exists()
    monkeypatch.setattr(sys, "argv", ["export", f"--model_path={tmp_path / 'b'}"])
    export.main()
    assert (tmp_path / "b" / "peft" / "prompt_2" / "adapter_config.json").is_file()


def test_an_export_that_fails_keeps_the_earlier_adapter(run_copy, tmp_path, monkeypatch):
    """Weights of one export beside the configuration of another load without a word."""
    folder = export_run(run_copy, tmp_path)[0]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(state, path):
        Path(path).write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(export, "save_file", full)
    with pytest.raises(UserError, match=r"cannot write .*prompt_0/adapter_model.safetensors: Error while"):
        export_run(run_copy, tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write .*file/prompt_0: "):
        export_run(run_copy, tmp_path / "file")


def test_a_full_disk_keeps_the_trained_part_and_its_metadata(run_copy, distributed, monkeypatch):
    """The best epoch so far must outlive the epoch that cannot be written, and be what its metadata says."""
    before = {name: (run_copy / name).read_bytes() for name in ("trained.safetensors", "trained.json")}
    model = _load(run_copy)

    def full(state, path):
        Path(path).write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(trained_part, "save_file", full)
    with pytest.raises(UserError, match=r"cannot write .*trained.safetensors: Error while serializing"):
        checkpoints.save_trained(model, run_copy, distributed, {"steps": 9})
    with pytest.raises(UserError, match="'validation_loss' cannot be written as JSON"):
        checkpoints.save_trained(model, run_copy, distributed, {"validation_loss": float("nan")})
    assert {name: (run_copy / name).read_bytes() for name in before} == before
    assert not list(run_copy.glob(".part-*"))


def test_a_full_disk_keeps_the_earlier_base_lm(tmp_path, make_config, distributed, monkeypatch):
    """save_pretrained writes file by file: half of a new LM in the old one's folder is neither."""
    init = {
        "architecture": "gpt2",
        "hidden_size": 16,
        "num_layers": 1,
        "num_heads": 2,
        "vocab_size": 300,
        "max_positions": 64,
    }
    model = model_of(make_config(model={"model_type": "language_model", "init": init}))
    checkpoints.save_trained(model, tmp_path, distributed, {})
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(before)

    def full(path):
        (path / "tokenizer.json").write_text("half")
        raise Exception("No space left on device (os error 28)")  # as the tokenizers library does

    monkeypatch.setattr(model.tokenizer, "save_pretrained", full)
    with pytest.raises(UserError, match=r"cannot write .*/model: No space left on device"):
        checkpoints.save_trained(model, tmp_path, distributed, {})
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_export_of_a_run_without_soft_prompts_is_an_error(run_copy, tmp_path):
    """LoRA has adapters of another kind; an empty folder would pass for a result."""
    from safetensors.torch import save_file

    state = load_file(run_copy / "trained.safetensors")
    kept = {name: tensor for name, tensor in state.items() if name != "soft_prompts.weight"}
    save_file(kept, run_copy / "trained.safetensors")
    with pytest.raises(UserError, match="no soft prompts here"):
        export_run(run_copy, tmp_path / "peft")
    assert not (tmp_path / "peft").exists()


def test_a_checkpoint_cannot_be_taken_over_in_part(make_config):
    """The error comes before the first copy: a model with half of the tensors is worse than none."""
    model = model_of(make_config())
    before = model.soft_prompts.weight.clone()
    state = model.trained_state()
    state["soft_prompts.weight"] = state["soft_prompts.weight"] + 1
    state["retriever.linear.weight"] = state["retriever.linear.weight"][:3]
    with pytest.raises(UserError, match="retriever.linear.weight"):
        model.load_trained_state(state, "here")
    assert torch.equal(model.soft_prompts.weight, before)
