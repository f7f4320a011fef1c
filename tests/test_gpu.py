"""On a GPU everything gives what the CPU gives in float32, within the tolerances stated here. `make gpu` runs these.

Every test runs on the CPU too (those that train in `make test-long`), so that it is known to be in order where a GPU
is at last at hand.
"""

import functools
import json
import sys
from pathlib import Path

import pytest
import torch

from models.decoding.chat import Conversation
from models.decoding.generation import generate_replies
from tests.conftest import config_for
from tests.helpers import inference_batch, json_rows, launch, logged, model_of, train_batch
from tests.models.test_golden import LOSS_CASES, expected_of, loaded
from utils.precision import DTYPES

FIRST = "32 0"
CASES = {
    "cuda": [(32, 0), *((precision, stage) for precision in (32, "bf16", 16) for stage in (1, 2, 3))],
    "cpu": [(32, 0), (32, 3), ("bf16", 1)],  # tests/trainer/test_precision.py has them all
}
# how far a figure may lie from the CPU's in float32, relative to it: matrix products of a GPU sum in another order;
# bf16 has 8 binary digits, float16 has 11
FIGURES = {"32": 1e-3, "16": 0.02, "bf16": 0.05}
GRADIENTS = {"32": 1e-3, "16": 0.05, "bf16": 0.15}  # the distance of two vectors
# of the mean losses of a training's steps; without any updates they are over 3e-3 off, on the CPU in bf16 1e-4
TRAINED = {"32": 1e-4, "16": 1e-3, "bf16": 1e-3}

RUNS = [
    pytest.param(
        device, f"{precision} {stage}", marks=pytest.mark.gpu if device == "cuda" else pytest.mark.long
    )
    for device, cases in CASES.items()
    for precision, stage in cases
]
trained_on_each_device = pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=pytest.mark.long), pytest.param("cuda", marks=pytest.mark.gpu)]
)
on_each_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


@pytest.fixture(scope="module")
def job(data, lm_folder, tmp_path_factory):
    """job(device): the device's name and the run folder of each case; run once per device."""

    @functools.cache
    def run(device):
        out = tmp_path_factory.mktemp(f"runs_{device}")
        training = {"training": {"training_ratio": 0.3, "log_every": 1}}
        config = config_for(
            data, lm_folder("opt"), out / "runs", {"model": {"prompts_per_pass": 2}}, training
        )
        content = {"sections": config.model_dump(), "cases": CASES[device], "out": str(out)}
        (out / "job.json").write_text(json.dumps(content), encoding="utf-8")
        command = [sys.executable, "-m", "tests.device_runs", str(out / "job.json")]
        done = launch(*command, variables={"DS_ACCELERATOR": device})
        assert done.returncode == 0, done.stdout + done.stderr
        answer = json.loads((out / "answer.json").read_text(encoding="utf-8"))
        return answer["device"], {name: Path(path) for name, path in answer["runs"].items()}

    return run


@on_each_device
@pytest.mark.parametrize("case", LOSS_CASES)
def test_losses_and_scores_are_the_authors(case, device):
    """A kernel with reduced precision, or an index made on another device, would train another model."""
    model, examples, expected = loaded.__wrapped__(case)  # not the shared one, which stays on the CPU
    model.to(device)
    batch = train_batch(model, examples).to(device)
    output = model(batch)
    found = {**output.losses, "total": output.total}
    for name, value in expected["losses"].items():
        assert found[name].item() == pytest.approx(value, rel=1e-3, abs=1e-4), name
    scores = torch.tensor(expected_of(case)["scores_training_KxB"])
    torch.testing.assert_close(model.scores(batch.query).cpu(), scores, atol=1e-4, rtol=1e-3)


@on_each_device
@pytest.mark.parametrize("precision", [32, 16, "bf16"])
@pytest.mark.parametrize("family", ["opt", "llama"])
def test_losses_and_gradients_are_those_of_float32_on_the_cpu(
    family, precision, device, make_config, examples
):
    """A kernel that is wrong in one precision would train towards something else, and every loss would still fall."""

    def step(precision, device):
        config = make_config(family, model={"load_bit": precision, "prompts_per_pass": 2})
        torch.manual_seed(5)  # after the LM is made
        model = model_of(config)
        model.to(device, DTYPES[precision])
        output = model(train_batch(model, examples[:3]).to(device))
        output.total.backward()
        return output, torch.cat(
            [p.grad.float().cpu().flatten() for p in model.parameters() if p.grad is not None]
        )

    wanted, wanted_gradient = step(32, "cpu")
    output, gradient = step(precision, device)
    close = {"rel": FIGURES[str(precision)], "abs": FIGURES[str(precision)] / 10}  # L_selection is nearly 0
    for name, loss in wanted.losses.items():
        assert output.losses[name].item() == pytest.approx(loss.item(), **close), name
    distance = (gradient - wanted_gradient).norm() / wanted_gradient.norm()
    assert distance < GRADIENTS[str(precision)]


@on_each_device
@pytest.mark.parametrize("family", ["opt", "llama"])
def test_replies_are_those_of_the_cpu(family, device, make_config, examples):
    """A run that is decoded on another machine must be scored on the same replies."""
    model = model_of(make_config(family))
    batch = inference_batch(model, examples[:8])
    choice = torch.arange(8) % model.num_prompts
    here = [reply.text for reply in generate_replies(model, batch, None, choice)]
    model.to(device)
    there = [reply.text for reply in generate_replies(model, batch.to(device), None, choice.to(device))]
    assert there == here


@on_each_device
def test_a_chat_says_what_it_says_on_the_cpu(device, make_config):
    """A history or a prompt that stays on the CPU ends the chat at its first line."""
    model = model_of(make_config("opt"))

    def talk(device):
        chat = Conversation(model.to(device), model.config, lambda: ["i like to ski ."], device)
        return [chat.say(line) for line in ("hello there", "do you ski ?")]

    wanted = talk("cpu")
    assert [(reply.text, reply.prompt) for reply in talk(device)] == [
        (reply.text, reply.prompt) for reply in wanted
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("device", "name"), RUNS)
def test_a_training_learns_what_float32_learns_on_the_cpu(device, name, job):
    """A stage or a precision that trains something else on this device would be found after days of training."""
    told, runs = job(device)
    assert told == ("cuda:0" if device == "cuda" else "cpu")
    tolerance = TRAINED[name.split()[0]]
    _, wanted = job("cpu")
    for phase in ("train", "valid_epoch"):
        losses, others = ([row["total"] for row in logged(run, phase)] for run in (runs[name], wanted[FIRST]))
        assert losses == pytest.approx(others, rel=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(("device", "name"), RUNS)
def test_a_run_is_kept_loaded_and_decoded(device, name, job):
    """A checkpoint that cannot be read on the device that wrote it, or a loss that the replies' table has wrong."""
    _, runs = job(device)
    _, wanted = job("cpu")
    assert (runs[name] / "ds_ckpt" / "best").is_file()
    assert (runs[name] / "trained.safetensors").is_file()
    rows, others = (json_rows(run / "evaluation_result.jsonl") for run in (runs[name], wanted[FIRST]))
    assert [row["target"] for row in rows] == [row["target"] for row in others]
    losses, wanted_losses = (sum(row["nll"] for row in each) for each in (rows, others))
    assert losses == pytest.approx(wanted_losses, rel=FIGURES[name.split()[0]])


@pytest.mark.slow
@trained_on_each_device
def test_a_training_starts_from_what_another_has_kept(device, job):
    """The trained part would be read and left on the CPU, or not be read: the second run begins where the first did."""
    _, runs = job(device)
    first, again = (logged(runs[name], "valid_epoch")[0]["total"] for name in (FIRST, "again"))
    assert again < first


@pytest.mark.slow
@trained_on_each_device
def test_a_run_that_was_stopped_goes_on(device, job):
    """Adam's states, the loss scale or random states that stay behind on the device: losses jump after a restart."""
    _, runs = job(device)
    names = [name for name in runs if name.startswith("resumed")]
    assert names
    for name in names:
        case = name.removeprefix("resumed ")
        for phase in ("train", "valid_epoch"):
            resumed, whole = (logged(runs[each], phase) for each in (name, case))
            assert [row["step"] for row in resumed] == [row["step"] for row in whole]
            losses, others = ([row["total"] for row in rows] for rows in (resumed, whole))
            assert losses == pytest.approx(others, rel=0 if device == "cpu" else TRAINED[case.split()[0]])
