"""ROPG equals the golden cases: texts, utilities, scores, losses, gradients, optimiser steps."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from companions.lamp.ropg.losses import kd_loss, rl_loss
from companions.lamp.ropg.model import Retriever
from companions.lamp.ropg.settings import KDSettings
from companions.lamp.tasks import task_of
from companions.lamp.utilities import utility
from models.trainable import Trainable
from tests.companions.lamp.golden import GOLDEN, cases, load
from tests.companions.lamp.ropg.questions import batch_of, encoder, examples_of
from trainer.schedule import make_scheduler

FILES = cases("5_ropg/LaMP-*.json")


def close(value, wanted):
    """Within 1e-5 or 1e-4 of the value, whichever is larger."""
    assert torch.is_tensor(value)
    torch.testing.assert_close(value.detach().double(), torch.tensor(wanted).double(), atol=1e-5, rtol=1e-4)


def real(columns, mask):
    """The values [C, B] of the documents that there are, a list for each question."""
    return [column[kept].tolist() for column, kept in zip(columns.T, mask.T, strict=True)]


def grad_norm(loss, module: Trainable):
    """The L2 norm of the gradient over all trained parameters."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
    return torch.cat([gradient.flatten() for gradient in gradients]).norm().item()


@pytest.fixture
def retriever():
    """The tiny encoder, in evaluation mode."""
    return Retriever(encoder(), KDSettings()).eval()


@pytest.mark.parametrize("path", FILES)
def test_texts_and_utilities(path, tmp_path, retriever):
    """A query, a document or a utility of another item trains the retriever on what the LM never said."""
    golden = load(path)
    for case in golden["cases"]:
        examples = examples_of(golden, case, tmp_path, retriever.encoder)
        tokenize = retriever.encoder.tokenize
        for number, documents in enumerate(case["documents"]):
            example = examples[number]
            assert example.number == number
            assert example.query.tolist() == tokenize([case["queries"][number]], case["max_length_query"])[0]
            wanted = tokenize(documents, case["max_length_document"])
            assert [document.tolist() for document in example.documents] == wanted
            np.testing.assert_allclose(example.utilities, case["targets"][number], atol=1e-6)
            rewards = example.utilities - example.utilities[0]
            np.testing.assert_allclose(rewards, case["rewards"][number], atol=1e-6)


@pytest.mark.parametrize("path", FILES)
def test_scores_losses_and_gradients(path, tmp_path, retriever):
    """Pads that count, a second softmax or rewards without their baseline: each still falls, towards something else."""
    golden = load(path)
    for case in golden["cases"]:
        batch = batch_of(examples_of(golden, case, tmp_path, retriever.encoder), case["ctx_size"])
        scores = retriever.score(batch)
        for found, wanted in zip(real(scores, batch.mask), case["scores"], strict=True):
            close(torch.tensor(found), wanted)
        actions = torch.tensor(case["rl_released"]["actions"])
        losses = {
            "kd_corrected": kd_loss(scores, batch.utilities, batch.mask, case["temperature"]),
            "rl_corrected_action": rl_loss(scores, batch.utilities, batch.mask, actions),
            "rl_corrected_expectation": rl_loss(scores, batch.utilities, batch.mask),
        }
        for name, loss in losses.items():
            close(loss, case[name]["loss"])
            assert grad_norm(loss, retriever) == pytest.approx(case[name]["grad_norm"], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("path", FILES)
def test_steps_of_the_optimiser(path, tmp_path, retriever):
    """A parameter that is left out of the optimiser, or the pooler in it, shows after a step."""
    golden = load(path)
    case = golden["cases"][0]
    batch = batch_of(examples_of(golden, case, tmp_path, retriever.encoder), case["ctx_size"])
    (group,) = retriever.parameter_groups(1e-3)
    optimizer = torch.optim.Adam([group], lr=1e-3)
    for step in golden["kd_steps_on_first_case"]["steps"]["corrected"]:
        loss = retriever(batch).total
        assert loss.item() == pytest.approx(step["loss"], rel=1e-3, abs=1e-5)
        assert grad_norm(loss, retriever) == pytest.approx(step["grad_norm"], rel=1e-3)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
        optimizer.step()


FIXED = load("5_ropg/fixed_scores.json") if (GOLDEN / "5_ropg" / "fixed_scores.json").is_file() else []


@pytest.mark.parametrize("case", FIXED, ids=lambda case: f"{case['task']}-{len(case['scores'])}")
def test_losses_of_fixed_scores(case):
    """The gradient with respect to the scores: what any encoder would learn from; none of it flows into pads."""
    task = task_of(case["task"])
    utilities = torch.full(torch.tensor(case["scores"]).T.shape, torch.nan)  # of pads
    for column, (row, gold) in enumerate(zip(case["feedback"], case["golds"], strict=True)):
        values = [utility(task, {task.scoring.best: value}, gold) for value in row]
        utilities[: len(row), column] = torch.tensor(values)
    mask = ~utilities.isnan()
    actions = torch.tensor(case["rl_corrected_action"]["actions"])
    for name, loss_of in {
        "kd_corrected": lambda scores: kd_loss(scores, utilities, mask, case["temperature"]),
        "rl_corrected_action": lambda scores: rl_loss(scores, utilities, mask, actions),
        "rl_corrected_expectation": lambda scores: rl_loss(scores, utilities, mask),
    }.items():
        scores = torch.tensor(case["scores"]).T.contiguous().requires_grad_()
        loss = loss_of(scores)
        loss.backward()
        close(loss, case[name]["loss"])
        close(scores.grad.T, case[name]["grad_scores"])


SCHEDULES = load("5_ropg/schedules.json") if (GOLDEN / "5_ropg" / "schedules.json").is_file() else []


@pytest.mark.parametrize("case", SCHEDULES, ids=lambda case: f"{case['scheduler']}-{case['warmup_steps']}")
def test_learning_rates(case):
    """Another schedule than the original's; only its first step, at learning rate 0, is left out."""
    warmup = case["warmup_steps"] if case["scheduler"] == "linear" else 0
    first = 1 if warmup else 0
    end = (case["scheduler_steps"] or case["total_steps"]) - first
    kind = {"fixed": None, "linear": "LinearWarmup" if case["fixed_lr"] else "Linear"}[case["scheduler"]]
    rate = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([rate], lr=0.5)
    settings = SimpleNamespace(warmup_type=kind, warmup_min=0.0, warmup_ratio=warmup / end, learning_rate=0.5)
    scheduler = make_scheduler(optimizer, settings, end)
    for wanted in case["factor_at_step_0_to_11"][first : first + end]:
        assert optimizer.param_groups[0]["lr"] / 0.5 == pytest.approx(wanted)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
