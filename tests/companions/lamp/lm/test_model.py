"""Training of both kinds of LMs: what validation says, what is kept, and that it answers as it was trained to."""

import json
from pathlib import Path

import pytest
import torch

from companions.lamp.lm.evaluate import evaluate
from companions.lamp.lm.load import load_lm
from companions.lamp.lm.model import AnsweringModel
from companions.lamp.lm.settings import EvaluationConfig, LMTrainingSettings, TrainConfig
from companions.lamp.lm.task import train_lm
from companions.lamp.tasks import task_of
from tests.companions.lamp.lm.made_lms import made
from tests.helpers import logged
from utils.errors import UserError

TASK = {"task": "LaMP-3", "max_length": 32}


@pytest.fixture
def merged(tmp_path):
    """Eight questions whose rating is a word of the review."""
    rows = [
        {
            "id": str(number),
            "input": f"review: the film is {word}",
            "profile": [],
            "output": "5" if word == "good" else "1",
        }
        for number, word in enumerate(["good", "bad"] * 4)
    ]
    path = tmp_path / "merged.json"
    path.write_text(json.dumps(rows))
    return str(path)


@pytest.mark.parametrize("family", ["t5", "gpt2"])
def test_a_trained_lm_is_kept_and_answers(family, merged, tmp_path, distributed):
    """A checkpoint that is not the best epoch's, or lacks the tokenizer, cannot be evaluated or asked for feedback."""
    lm = made(family)
    lm.save(tmp_path / "start", dict(lm.model.named_parameters()))
    config = TrainConfig(
        model={"model_name": str(tmp_path / "start")},
        dataset={**TASK, "train": merged, "valid": merged, "test": merged},
        training={"learning_rate": 0.01, "num_epochs": 6, "batch_size": 4, "log_dir": str(tmp_path / "runs")},
        generation={"max_length": 6},
    )
    run = train_lm(config, distributed, "run")
    assert [row["fault"] for row in logged(run, "warning")] == ["overlap"]
    rows = logged(run, "valid_epoch")
    assert rows[-1]["llm"] < rows[0]["llm"]
    maes = [row["mae"] for row in rows]
    metadata = json.loads((run / "trained.json").read_text())
    assert (metadata["best_value"], metadata["best_by"]) == (min(maes), "validation mae")
    results = json.loads((run / "results_output.json").read_text())
    assert results["test_mae"] == min(maes)
    asked = EvaluationConfig(
        model={"model_name": str(run)}, dataset={**TASK, "valid": merged}, generation={"max_length": 6}
    )
    evaluate(asked, tmp_path / "again", distributed)
    again = json.loads((tmp_path / "again" / "results_output.json").read_text())
    assert again["eval_mae"] == min(maes)
    assert (tmp_path / "again" / "predictions.json").read_text() == (run / "predictions.json").read_text()


def test_weight_decay_spares_biases_and_norms():
    """Decay of a norm's gain pulls every activation towards 0."""
    lm = made("t5")
    module = AnsweringModel(lm, task_of("LaMP-3"), lm.search(1, 4), LMTrainingSettings(weight_decay=0.1))
    decays = {
        id(parameter): group["weight_decay"]
        for group in module.parameter_groups(1.0)
        for parameter in group["params"]
    }
    for name, parameter in module.named_parameters():
        spared = "layer_norm" in name or "bias" in name
        assert decays[id(parameter)] == (0.0 if spared else 0.1), name


def test_a_gold_that_is_no_rating_is_named(merged, tmp_path, distributed):
    """Found after the first epoch, without the question's name, it costs hours."""
    lm = made("t5")
    lm.save(tmp_path / "start", dict(lm.model.named_parameters()))
    rows = json.loads(Path(merged).read_text())
    rows[3]["output"] = "nine"
    (tmp_path / "wrong.json").write_text(json.dumps(rows))
    asked = EvaluationConfig(
        model={"model_name": str(tmp_path / "start")},
        dataset={**TASK, "valid": str(tmp_path / "wrong.json")},
        generation={"max_length": 6},
    )
    with pytest.raises(UserError, match="question '3'.*nine"):
        evaluate(asked, tmp_path / "out", distributed)


def test_questions_without_outputs_have_predictions_alone(merged, tmp_path, distributed):
    """The benchmark's test questions have no outputs: their predictions are what its leaderboard is sent."""
    lm = made("t5")
    lm.save(tmp_path / "start", dict(lm.model.named_parameters()))
    rows = [
        {key: row[key] for key in ("id", "input", "profile")} for row in json.loads(Path(merged).read_text())
    ]
    (tmp_path / "test.json").write_text(json.dumps(rows))
    asked = EvaluationConfig(
        model={"model_name": str(tmp_path / "start")},
        dataset={**TASK, "valid": str(tmp_path / "test.json")},
        generation={"max_length": 6},
    )
    evaluate(asked, tmp_path / "out", distributed)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"predictions.json"}
    predictions = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [row["id"] for row in predictions["golds"]] == [row["id"] for row in rows]


def test_an_lm_that_lacks_weights_is_refused(tmp_path):
    """The library draws missing weights at random: feedback of noise, after a warning."""
    from safetensors.torch import load_file, save_file

    lm = made("t5")
    lm.save(tmp_path / "lm", dict(lm.model.named_parameters()))
    path = tmp_path / "lm" / "model.safetensors"
    state = load_file(path)
    del state[next(name for name in state if "decoder.block.0" in name)]
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match="lack 1 of its weights"):
        load_lm(str(tmp_path / "lm"))


def test_too_few_positions_are_told_before_any_work():
    """Learnt positions end: an index error in the middle of a batch."""
    with pytest.raises(UserError, match="128 positions"):
        made("gpt2").check_lengths(100, 64)
    made("gpt2").check_lengths(100, 28)
    made("bart").check_lengths(128, 64)
    made("t5").check_lengths(4096, 64)
    assert torch.is_inference_mode_enabled() is False
