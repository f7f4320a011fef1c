"""Questions of many users, each asked with the user's own adapter."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from companions.lamp.lm.evaluate import evaluate
from companions.lamp.lm.settings import EvaluationConfig
from companions.lamp.peft.evaluation import evaluate_users
from tests.companions.lamp.peft.conftest import T5, evaluation_config, record, write
from utils.errors import UserError

# users in turns, and one more of each
USERS = ["7", "8", "9", "8", "7", "9"]


@pytest.fixture(scope="module")
def test_file(tmp_path_factory):
    """Questions of all users."""
    records = [record(number, user, items=1) for number, user in enumerate(USERS)]
    return write(tmp_path_factory.mktemp("test") / "questions.json", records)


def _predictions(folder):
    golds = json.loads((folder / "predictions.json").read_text())
    assert golds["task"] == "LaMP_2"
    return {row["id"]: row["output"] for row in golds["golds"]}


def test_each_question_is_answered_by_its_users_adapter(test_file, trained, distributed, tmp_path):
    """Answers of another user's adapter, or in another order than the questions', score like chance."""
    results = evaluate_users(evaluation_config(test_file, trained / "adaptors"), tmp_path, distributed)
    assert list(_predictions(tmp_path)) == [str(number) for number in range(len(USERS))]
    assert results["eval_accuracy"] == 1.0
    assert results == json.loads((tmp_path / "results_output.json").read_text())


def test_the_output_folder_of_training_is_found_too(test_file, trained, distributed, tmp_path):
    """One folder too high gives the LM without adapters."""
    results = evaluate_users(evaluation_config(test_file, trained), tmp_path, distributed)
    assert results["eval_accuracy"] == 1.0


def test_a_user_without_an_adapter_is_asked_with_the_lm_alone(test_file, trained, distributed, tmp_path):
    """The adapter of the user before answers for one who has none."""
    shutil.copytree(trained / "adaptors" / "8", tmp_path / "adapters" / "8")
    evaluate_users(evaluation_config(test_file, tmp_path / "adapters"), tmp_path / "own", distributed)
    plain = {
        "model": {"model_name": T5},
        "dataset": {"valid": test_file, "task": "LaMP-2", "max_length": 64},
        "generation": {"max_length": 8},
    }
    evaluate(EvaluationConfig.model_validate(plain), tmp_path / "plain", distributed)
    own, without = _predictions(tmp_path / "own"), _predictions(tmp_path / "plain")
    for number, user in enumerate(USERS):
        expected = "action" if user == "8" else without[str(number)]
        assert own[str(number)] == expected
    assert "action" not in without.values()


def test_golds_come_from_their_own_file(test_file, trained, distributed, tmp_path):
    """Published questions have no outputs beside them, so that there is nothing to score."""
    records = [{**row, "output": "no tag"} for row in json.loads(Path(test_file).read_text())]
    file = write(tmp_path / "q.json", records)
    golds = [{"id": row["id"], "output": "comedy"} for row in reversed(records)]
    (tmp_path / "golds.json").write_text(json.dumps({"task": "LaMP_2", "golds": golds}))
    data = {"dataset": {"golds": str(tmp_path / "golds.json")}}
    results = evaluate_users(evaluation_config(file, trained, **data), tmp_path / "out", distributed)
    assert results["eval_accuracy"] == pytest.approx(1 / 3)
    (tmp_path / "golds.json").write_text(json.dumps(golds[1:]))
    with pytest.raises(UserError, match=r"question '5': no output in .*golds.json"):
        evaluate_users(evaluation_config(file, trained, **data), tmp_path / "out", distributed)


def test_parts_of_the_users_have_folders_of_their_own(test_file, trained, distributed, tmp_path):
    """The last of several processes overwrites the predictions of the others."""
    found = {}
    for shard_id in (0, 1):
        users = {"users": {"num_shards": 2, "shard_id": shard_id}}
        evaluate_users(evaluation_config(test_file, trained, **users), tmp_path, distributed)
        found[shard_id] = _predictions(tmp_path / f"shard_{shard_id}_of_2")
    assert sorted(found[0]) == ["0", "1", "3", "4"]
    assert sorted(found[1]) == ["2", "5"]


def test_a_folder_without_any_adapter_is_refused(test_file, distributed, tmp_path):
    """A wrong folder gives the figures of the LM alone, under the name of adapters."""
    with pytest.raises(UserError, match="none of 3 users"):
        evaluate_users(evaluation_config(test_file, tmp_path), tmp_path / "out", distributed)
    with pytest.raises(UserError, match="folder of adapters not found"):
        evaluate_users(evaluation_config(test_file, tmp_path / "none"), tmp_path / "out", distributed)


def _config_with(**values):
    def change(folder):
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def _cut(folder):
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _of_another_lm(folder):
    path = folder / "adapter_model.safetensors"
    save_file({name: torch.zeros(2, 2) for name in load_file(path)}, path)


def _without_weights(folder):
    (folder / "adapter_model.safetensors").unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_config_with(use_dora=True), "adapters/8/adapter_config.json: 'use_dora' is True, expected False"),
        (_config_with(r=4), "adapters/8/adapter_config.json: 'r' is 4, expected 8"),
        (_config_with(target_modules=["q"]), "'target_modules' is"),
        (_cut, "adapters/8/adapter_model.safetensors: not a readable safetensors file"),
        (_of_another_lm, "belongs to another LM"),
        (_without_weights, "adapter not found: .*adapters/8/adapter_model.safetensors"),
    ],
)
def test_an_adapter_that_does_not_fit_is_named(change, message, test_file, trained, distributed, tmp_path):
    """Values of another kind are taken in part, and the user's answers are noise."""
    shutil.copytree(trained / "adaptors", tmp_path / "adapters")
    change(tmp_path / "adapters" / "8")
    with pytest.raises(UserError, match=rf"{message}"):
        evaluate_users(evaluation_config(test_file, tmp_path / "adapters"), tmp_path / "out", distributed)


def test_sizes_that_are_no_sizes_are_named(test_file, trained, distributed, tmp_path):
    """A rank from a file is allocated before anybody has looked at it."""
    shutil.copytree(trained / "adaptors", tmp_path / "adapters")
    _config_with(r=10**9)(tmp_path / "adapters" / "7")
    with pytest.raises(UserError, match=r"adapters/7/adapter_config.json: 'r': Input should be less than"):
        evaluate_users(evaluation_config(test_file, tmp_path / "adapters"), tmp_path / "out", distributed)
