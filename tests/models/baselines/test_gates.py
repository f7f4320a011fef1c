"""What learned routers make of their logits, against numbers worked out by hand."""

import math

import pytest
import torch

from models.baselines.gates import concatenation_gates, gated_prompts, perturbed, scaled_prompts

PROMPTS = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])  # K = 2, V = 1, D = 2


def test_noise_multiplies_the_logits():
    """Noise that is added reaches a sure router as much as an unsure one, and is another method."""
    found = perturbed(torch.tensor([[2.0, -4.0]]), torch.tensor([[0.5, -0.25]]))
    assert found.tolist() == [[3.0, -3.0]]


def test_a_prompt_is_scaled_by_its_own_probability():
    """The probability of another prompt, or of another example, teaches the router the opposite."""
    probabilities = torch.tensor([[0.75, 0.1], [0.25, 0.9]], requires_grad=True)  # [K, B]
    found = scaled_prompts(PROMPTS, probabilities, torch.tensor([0, 1]))
    torch.testing.assert_close(found, torch.tensor([[[0.75, 1.5]], [[2.7, 3.6]]]))
    found.sum().backward()
    assert probabilities.grad is not None
    assert probabilities.grad.tolist() == [[3.0, 0.0], [0.0, 7.0]]


def test_gates_have_a_mean_of_one():
    """Plain softmax would shrink every prompt to 1 / K of what it is in prompt tuning."""
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])  # [B, K]
    torch.testing.assert_close(concatenation_gates(logits), torch.tensor([[0.5, 1.0], [1.5, 1.0]]))


def test_gated_prompts_stand_in_their_order():
    """Virtual tokens that are interleaved, or gates that are laid over another example's, are another model."""
    found = gated_prompts(PROMPTS.repeat(1, 2, 1), torch.tensor([[1.0, 0.0], [2.0, 1.0]]))
    assert found.shape == (2, 4, 2)
    assert found[0].tolist() == [[1, 2], [1, 2], [6, 8], [6, 8]]
    assert found[1].tolist() == [[0, 0], [0, 0], [3, 4], [3, 4]]


def test_one_prompt_is_left_alone():
    """With K = 1 a gate other than 1 would make something else of plain prompt tuning."""
    assert concatenation_gates(torch.tensor([[7.0]])).item() == pytest.approx(1.0)
