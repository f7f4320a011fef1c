"""Losses and figures of a scorer of candidates, on numbers worked out by hand and on degenerate inputs."""

from math import log

import pytest
import torch

from models.feedback import (
    feedback_counts,
    feedback_kl,
    feedback_reducers,
    policy_gradient_loss,
    usage_entropy,
)

SCORES = torch.tensor([[log(3.0), 0.0], [0.0, 0.0], [5.0, 1.0]])  # the third candidate is often masked
UTILITIES = torch.tensor([[1.0, 2.0], [3.0, 5.0], [9.0, -4.0]])
TWO = torch.tensor([[True, True], [True, True], [False, False]])


def test_the_divergence_by_hand():
    """A temperature on the wrong side, or the arguments of KL swapped, trains towards something else."""
    loss = feedback_kl(SCORES[:2, :1], torch.tensor([[0.0], [2 * log(3.0)]]), tau_gold=2.0)
    # gold 1/4, 3/4; policy 3/4, 1/4
    assert loss.item() == pytest.approx(0.25 * log(1 / 3) + 0.75 * log(3))
    assert feedback_kl(SCORES[:2, :1], torch.tensor([[log(3.0)], [0.0]])).item() == pytest.approx(0, abs=1e-7)


def test_masked_candidates_count_for_nothing():
    """Padding of short lists that takes a share of the softmax teaches the scorer to like what is not there."""
    for loss in (feedback_kl, policy_gradient_loss):
        scores = SCORES.clone().requires_grad_()
        masked = loss(scores, UTILITIES, mask=TWO)
        assert masked.item() == pytest.approx(loss(SCORES[:2], UTILITIES[:2]).item(), rel=1e-6)
        masked.backward()
        assert scores.grad[2].tolist() == [0, 0]
    counts = feedback_counts(SCORES, UTILITIES, TWO)
    assert counts["usage"].tolist() == [2, 0, 0]


@pytest.mark.parametrize("tau", [1.0, 0.1])
def test_an_example_without_candidates_changes_nothing(tau):
    """One empty profile would turn the whole batch into NaN, or weigh down the others' mean."""
    mask = TWO.clone()
    mask[:, 1] = False
    for loss in (feedback_kl, policy_gradient_loss):
        scores = SCORES.clone().requires_grad_()
        value = loss(scores, UTILITIES, tau_sim=tau, mask=mask)
        alone = loss(SCORES[:2, :1], UTILITIES[:2, :1], tau_sim=tau)
        assert value.item() == pytest.approx(alone.item(), rel=1e-6)
        value.backward()
        assert torch.isfinite(scores.grad).all()
        assert scores.grad[:, 1].tolist() == [0, 0, 0]
    counts = feedback_counts(SCORES, UTILITIES, mask)
    assert counts["usage"].sum() == 1
    assert counts["regret"].item() == 2  # of the first example alone: it chose 1.0 where 3.0 was to be had


def test_noise_stays_on_real_candidates():
    """Noise on padding would be a preference for it."""
    noise = torch.zeros_like(SCORES)
    noise[2] = 7.0
    assert torch.equal(
        feedback_kl(SCORES, UTILITIES, mask=TWO, noise=noise), feedback_kl(SCORES, UTILITIES, mask=TWO)
    )


def test_the_expected_reward_by_hand():
    """A sign, or a mean over candidates in place of a sum, trains away from the reward."""
    scores = SCORES[:2, :1].clone().requires_grad_()
    loss = policy_gradient_loss(scores, UTILITIES[:2, :1])
    assert loss.item() == pytest.approx(-(0.75 * 1 + 0.25 * 3))
    loss.backward()
    assert scores.grad[0, 0] > 0 > scores.grad[1, 0]  # a step of descent raises the better one


def test_drawn_actions_have_the_gradient_of_the_expectation_in_the_mean():
    """REINFORCE with another estimator than its own objective would learn another policy."""
    policy = torch.softmax(SCORES[:, :1], dim=0)
    gradients = []
    for baseline in (None, torch.tensor([2.5])):
        mean = torch.zeros(3, 1)
        for action in range(3):
            scores = SCORES[:, :1].clone().requires_grad_()
            policy_gradient_loss(
                scores, UTILITIES[:, :1], baseline=baseline, actions=torch.tensor([action])
            ).backward()
            mean += policy[action] * scores.grad
        gradients.append(mean)
    scores = SCORES[:, :1].clone().requires_grad_()
    policy_gradient_loss(scores, UTILITIES[:, :1]).backward()
    for gradient in gradients:
        torch.testing.assert_close(gradient, scores.grad, atol=1e-6, rtol=1e-5)


def test_nothing_flows_into_the_utilities():
    """A frozen LM's losses with a gradient would train the prompts by the retriever's loss."""
    utilities = UTILITIES.clone().requires_grad_()
    scores = SCORES.clone().requires_grad_()
    (feedback_kl(scores, utilities) + policy_gradient_loss(scores, utilities)).backward()
    assert utilities.grad is None


def test_counts_by_hand():
    """Collapse, and what it costs, is seen in these figures only."""
    counts = feedback_counts(SCORES, UTILITIES)
    assert counts["usage"].tolist() == [0, 0, 2]
    assert counts["agreement"].item() == 1  # the second example has 5.0 at candidate 1
    assert counts["regret"].item() == 9  # 9 - 9, and 5 - -4


def test_sums_become_figures_of_a_row():
    """Shares of two batches that are averaged, or a regret per batch, depend on how the file was cut."""
    batches = [feedback_counts(SCORES[:2], UTILITIES[:2]), feedback_counts(SCORES[:2, :1], UTILITIES[:2, :1])]
    reducers, row = feedback_reducers("document"), {}
    assert reducers.keys() == batches[0].keys()
    for name, reduce in reducers.items():
        row |= reduce(sum(batch[name].double() for batch in batches), 3)
    assert row == {
        "document_share": [1.0, 0.0],
        "document_entropy": 0.0,
        "agreement": 0.0,
        "regret": pytest.approx((2 + 3 + 2) / 3),
    }


def test_entropy_of_the_usage():
    """Counts that are not made shares first give an entropy that grows with the file."""
    assert usage_entropy(torch.tensor([7, 7, 7])).item() == pytest.approx(log(3))
    assert usage_entropy(torch.tensor([9, 0])).item() == 0
    assert usage_entropy(torch.tensor([0, 0])).item() == 0
