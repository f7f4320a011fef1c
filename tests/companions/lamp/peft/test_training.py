"""Adapters of many users, trained one after the other."""

import json
from functools import partial

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

import companions.lamp.peft.training as training
from companions.lamp.lm.load import load_lm
from companions.lamp.peft.adapters import UserAdapters
from companions.lamp.peft.settings import AdapterSettings
from companions.lamp.peft.training import train_users
from tests.companions.lamp.peft.conftest import T5, record, train_config, write
from tests.companions.lamp.test_rankings import ALONE
from tests.kills import Moment, run_job, run_killed
from utils.errors import UserError


def _values(folder, user):
    return load_file(folder / "adaptors" / user / "adapter_model.safetensors")


def test_each_user_has_a_folder_with_adapter_and_record(trained):
    """An adapter without its record is trained again, or taken for one of other settings."""
    assert sorted(path.name for path in (trained / "adaptors").iterdir()) == ["7", "8", "9"]
    files = sorted(path.name for path in (trained / "adaptors" / "8").iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors", "training.json"]
    facts = json.loads((trained / "adaptors" / "7" / "training.json").read_text())
    assert (facts["user"], facts["question"], facts["examples"]) == ("7", "0", 4)  # of the first question


def test_the_names_do_not_grow_with_the_users(trained):
    """An LM that is wrapped anew for each user saves names that nothing loads, from the second user on."""
    first, last = (_values(trained, user) for user in "79")
    assert first.keys() == last.keys()
    assert all(name.count("base_model") == 1 and "base_layer" not in name for name in first)
    assert {name.split(".")[-3] for name in first} == {"q", "k", "v"}
    assert any(not torch.equal(first[name], last[name]) for name in first)


def test_the_peft_library_loads_an_adapter_with_the_same_outputs(trained):
    """Adapters that only this project can read are of no use beside other tools."""
    own = load_lm(T5)
    adapters = UserAdapters(own, AdapterSettings())
    adapters.load(trained / "adaptors" / "8")
    library = PeftModel.from_pretrained(
        AutoModelForSeq2SeqLM.from_pretrained(T5), trained / "adaptors" / "8"
    ).eval()
    plain = load_lm(T5).model
    batch = {"input_ids": torch.tensor([[5, 9, 11, 1]]), "labels": torch.tensor([[7, 8, 1]])}
    with torch.inference_mode():
        logits = [model(**batch).logits for model in (own.model, library, plain)]
    torch.testing.assert_close(logits[0], logits[1])
    assert (logits[0] - logits[2]).abs().max() > 0.1


def test_training_lowers_the_loss(train_file, distributed, tmp_path, trained):
    """Adapters whose gradient never reaches them are saved as they started."""
    train_users(train_config(train_file, training={"num_epochs": 1}), tmp_path, distributed)
    for user in "789":
        first, last = (
            json.loads((folder / "adaptors" / user / "training.json").read_text())["loss"]
            for folder in (tmp_path, trained)
        )
        assert last < 0.7 * first


def test_an_adapter_does_not_depend_on_the_users_before(train_file, distributed, tmp_path, trained):
    """Values or random numbers of the user before leak into an adapter, so that a resumed run differs."""
    ids = write(tmp_path / "ids.json", ["9"])
    train_users(train_config(train_file, users={"user_ids": ids}), tmp_path, distributed)
    alone, together = _values(tmp_path, "9"), _values(trained, "9")
    assert all(torch.equal(alone[name], together[name]) for name in together)


def test_users_who_are_done_are_skipped(train_file, distributed, tmp_path, monkeypatch):
    """A run that was stopped after a thousand users begins again with the first."""
    config = train_config(train_file, training={"num_epochs": 1})
    real, calls = training.train_user, []

    def stop(adapters, examples, settings, seed):
        calls.append(seed)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(adapters, examples, settings, seed)

    monkeypatch.setattr(training, "train_user", stop)
    with pytest.raises(KeyboardInterrupt):
        train_users(config, tmp_path, distributed)
    assert [path.name for path in (tmp_path / "adaptors").iterdir()] == ["7"]
    before = (tmp_path / "adaptors" / "7" / "training.json").stat().st_mtime_ns
    train_users(config, tmp_path, distributed)
    assert len(calls) == 4
    assert (tmp_path / "adaptors" / "7" / "training.json").stat().st_mtime_ns == before
    train_users(config, tmp_path, distributed)
    assert len(calls) == 4


@pytest.mark.parametrize(
    ("moment", "whole"),
    [
        (Moment("companions.lamp.peft.training:train_user", 2, after=True), ["7"]),
        (Moment("companions.lamp.peft.adapters:save_file", 2, after=True), ["7"]),
        (Moment("os:rename", 2), ["7"]),
        (Moment("os:rename", 2, after=True), ["7", "8"]),
    ],
    ids=["trained", "weights", "before", "after"],
)
def test_a_kill_in_the_middle_of_a_user(train_file, tmp_path, moment, whole, survived):
    """An adapter of which half is there is taken for that of a user who is done."""
    config, context = train_config(train_file, training={"num_epochs": 1}), ALONE
    folders = tmp_path / "killed", tmp_path / "never"
    assert run_killed(partial(train_users, config, folders[0], context), moment).killed
    users = [path for path in (folders[0] / "adaptors").iterdir() if not path.name.startswith(".part-")]
    assert sorted(path.name for path in users) == whole
    assert all(len(list(user.iterdir())) == 3 for user in users)
    for folder in folders:
        run_job(partial(train_users, config, folder, context))
    for user in "789":
        values = [_values(folder, user) for folder in folders]
        assert all(torch.equal(values[0][name], values[1][name]) for name in values[1])
    survived("kills")


def test_adapters_of_other_settings_are_not_mixed(train_file, distributed, tmp_path, trained):
    """Half of the users are of one rank or learning rate and half of another, and nothing says so."""
    with pytest.raises(UserError, match=r"training.json: trained with r 8, not 4; give another --output_dir"):
        train_users(train_config(train_file, adapter={"r": 4}), trained, distributed)


def test_an_adapter_of_another_profile_is_not_taken_for_this_one(distributed, tmp_path, trained):
    """With a newer file of questions everybody is "done already", and keeps the adapter of the older one."""
    path = write(tmp_path / "other.json", [record(0, "7", items=3)])
    with pytest.raises(UserError, match="trained with profile_sha256"):
        train_users(train_config(path), trained, distributed)


def test_accumulated_batches_are_one_large_batch(distributed, tmp_path, monkeypatch):
    """Batches whose last one is short weigh its items more, so that the batch size changes the result."""
    row = record(0, "7")
    for item, tag in zip(
        row["profile"], ("comedy", "based on a book", "action", "social commentary"), strict=True
    ):
        item["tag"] = tag
    file, norms = write(tmp_path / "q.json", [row]), []
    clip = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda values, limit: norms.append(clip(values, limit).item())
    )
    for batch_size, steps in ((4, 1), (1, 4)):
        settings = {"batch_size": batch_size, "accumulation_steps": steps, "num_epochs": 1}
        train_users(train_config(file, training=settings), tmp_path / str(steps), distributed)
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_bf16_gives_adapters_in_float32(train_file, distributed, tmp_path):
    """Small updates vanish in bf16, or the LM's and the adapter's precisions do not go together."""
    config = train_config(
        train_file, model={"model_name": T5, "load_bit": "bf16"}, training={"num_epochs": 1}
    )
    train_users(config, tmp_path, distributed)
    assert {value.dtype for value in _values(tmp_path, "7").values()} == {torch.float32}
    assert any(value.any() for name, value in _values(tmp_path, "7").items() if "lora_B" in name)


@pytest.mark.parametrize("family", ["opt", "gpt2"])
def test_an_lm_without_an_encoder_has_adapters_too(family, lm_folder, train_file, distributed, tmp_path):
    """Projections are found by T5's names alone, or transposed ones are updated the wrong way round."""
    folder, losses = str(lm_folder(family)), []
    for epochs in (1, 30):
        config = train_config(train_file, folder, dataset={"max_length": 24}, training={"num_epochs": epochs})
        train_users(config, tmp_path / str(epochs), distributed)
        path = tmp_path / str(epochs) / "adaptors" / "7"
        losses.append(json.loads((path / "training.json").read_text())["loss"])
    assert losses[1] < losses[0] - 0.3
    own = load_lm(folder)
    UserAdapters(own, AdapterSettings()).load(path)
    library = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), path).eval()
    ids = torch.tensor([[5, 9, 11]])
    with torch.inference_mode():
        torch.testing.assert_close(own.model(ids).logits, library(ids).logits)


def test_an_empty_profile_gives_an_adapter_that_changes_nothing(distributed, tmp_path):
    """A user without items ends the run for all others."""
    file = write(tmp_path / "q.json", [record(0, "7", items=0)])
    train_users(train_config(file), tmp_path, distributed)
    assert all(not value.any() for name, value in _values(tmp_path, "7").items() if "lora_B" in name)


def test_a_question_without_a_user_is_named(distributed, tmp_path):
    """User-based files have no users, and the message must say so before an LM is loaded."""
    file = write(tmp_path / "q.json", [{**record(0, "7"), "user_id": None}])
    with pytest.raises(
        UserError, match=r"question '0': field 'user_id' is missing, which only .* time-based"
    ):
        train_users(train_config(file), tmp_path, distributed)
