"""The losses of ROPG by hand, and the drawn item."""

import math

import pytest
import torch

from companions.lamp.ropg.losses import draw_actions, kd_loss, rl_loss

ALL = torch.ones(2, 1, dtype=torch.bool)


def column(*values):
    """[C, 1]."""
    return torch.tensor(values)[:, None]


def test_kd_by_hand():
    """A temperature on one side alone asks the scores for another preference than the LM's."""
    utilities, scores = column(math.log(3.0), 0.0), column(0.0, 0.0)
    # (3/4, 1/4) against (1/2, 1/2)
    wanted = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert kd_loss(scores, utilities, ALL).item() == pytest.approx(wanted)
    assert kd_loss(3 * scores, 3 * utilities, ALL, 3.0).item() == pytest.approx(wanted)
    for temperature in (0.5, 1.0, 4.0):
        assert kd_loss(utilities + 7, utilities, ALL, temperature).item() == pytest.approx(0, abs=1e-6)


def test_rl_by_hand():
    """Rewards that are not measured by the first item reward what the retriever did already."""
    utilities, scores = column(0.25, 1.0), column(math.log(3.0), 0.0)  # the policy is (3/4, 1/4)
    assert rl_loss(scores, utilities, ALL).item() == pytest.approx(-0.25 * 0.75)
    assert rl_loss(scores, utilities, ALL, torch.tensor([1])).item() == pytest.approx(-0.75 * math.log(0.25))
    assert rl_loss(scores, utilities, ALL, torch.tensor([0])).item() == 0


@pytest.mark.parametrize("loss", [kd_loss, rl_loss])
def test_pads_count_for_nothing(loss):
    """A pad with a score draws the student's probability, and in LaMP-3 the best reward of all."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 2, generator=generator)
    utilities = torch.rand(3, 2, generator=generator)
    padded = torch.cat([scores, torch.full((2, 2), 1e4)]).requires_grad_()
    mask = torch.tensor([[True]] * 3 + [[False]] * 2).expand(5, 2)
    value = loss(padded, torch.cat([utilities, torch.full((2, 2), torch.nan)]), mask)
    assert value.item() == pytest.approx(loss(scores, utilities, mask[:3]).item())
    value.backward()
    assert (padded.grad[3:] == 0).all()
    assert padded.grad[:3].abs().sum() > 0


@pytest.mark.parametrize("loss", [kd_loss, rl_loss])
def test_a_single_item_teaches_nothing(loss):
    """With one item there is nothing to choose; a loss that still moves it would only make vectors longer."""
    scores = column(2.0).requires_grad_()
    value = loss(scores, column(0.7), ALL[:1])
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert scores.grad.abs().item() == pytest.approx(0, abs=1e-6)


def test_items_are_drawn_by_the_policy():
    """Draws that are not the policy's bias the gradient."""
    count = 4000
    draws = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    policy = torch.tensor([0.5, 0.125, 0.375])
    scores = torch.cat([policy.log(), torch.tensor([9.0])])[:, None].expand(4, count)
    mask = torch.tensor([[True], [True], [True], [False]]).expand(4, count)
    actions = draw_actions(scores, mask, draws)
    assert (actions.bincount() / count).tolist() == pytest.approx([0.5, 0.125, 0.375], abs=1e-3)


def test_the_largest_draw_is_an_item():
    """Where the probabilities sum to less than 1 by rounding, the item after the last would be drawn."""
    scores, mask = torch.zeros(8, 1), torch.tensor([[True]] * 7 + [[False]])
    almost_one = torch.tensor([math.nextafter(1.0, 0.0)], dtype=torch.float64)
    assert draw_actions(scores, mask, almost_one).item() == 6
    assert draw_actions(scores, mask, torch.zeros(1, dtype=torch.float64)).item() == 0
