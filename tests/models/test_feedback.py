"""Losses and figures of a scorer of candidates, on numbers worked out by hand and on degenerate inputs."""

from math import log

import pytest
import torch

from models.feedback import (
    chosen_candidates,
    feedback_counts,
    feedback_kl,
    feedback_reducers,
    policy_gradient_loss,
    regrets,
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
    # of the first example alone: it chose 1.0 where 3.0 was to be had
    assert (counts["agreement"].tolist(), counts["regret"].tolist()) == ([0, 1], [2, 1])


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
    assert counts["agreement"].tolist() == [1, 2]  # the second example has 5.0 at candidate 1
    assert counts["regret"].tolist() == [9, 2]  # 9 - 9, and 5 - -4
    assert regrets(SCORES, UTILITIES).tolist() == [0, 9]
    assert chosen_candidates(SCORES).tolist() == [2, 2]


def row_of(*batches):
    """The figures of a row, as the trainer sums them up."""
    row = {}
    for name, reduce in feedback_reducers("document").items():
        row |= reduce(sum(batch[name].double() for batch in batches), 99)
    return row


@pytest.mark.parametrize("padding", [0.0, 1e9, -1e9, float("inf"), float("-inf"), float("nan")])
def test_what_stands_in_the_padding_does_not_matter(padding):
    """0 * NaN is NaN in the gradient, too: a metric that is undefined for padding would end the training."""
    for loss in (feedback_kl, policy_gradient_loss):
        found = []
        for value in (padding, 0.0):
            scores = SCORES.masked_fill(~TWO, value).requires_grad_()
            result = loss(scores, UTILITIES.masked_fill(~TWO, value), mask=TWO)
            result.backward()
            found.append((result.item(), scores.grad))
        assert found[0][0] == found[1][0]
        assert torch.equal(found[0][1], found[1][1])
    counts = feedback_counts(SCORES.masked_fill(~TWO, padding), UTILITIES.masked_fill(~TWO, padding), TWO)
    for name, expected in feedback_counts(SCORES[:2], UTILITIES[:2]).items():
        assert counts[name].tolist()[:2] == expected.tolist()


def test_drawn_actions_with_padding_and_empty_examples():
    """An action of an example without candidates is a number all the same; it must not be learnt from."""
    mask = TWO.clone()
    mask[:, 1] = False
    scores = SCORES.clone().requires_grad_()
    utilities = UTILITIES.masked_fill(~mask, float("nan"))
    loss = policy_gradient_loss(scores, utilities, mask=mask, actions=torch.tensor([1, 0]))
    assert loss.item() == pytest.approx(-3.0 * log(0.25))
    loss.backward()
    assert scores.grad[:, 1].tolist() == [0, 0, 0]
    assert torch.isfinite(scores.grad).all()


def test_of_equal_utilities_either_is_agreement():
    """A metric of 0 or 1 is the same for many documents: choosing the second of the best would count as wrong."""
    utilities = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    scores = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    counts = feedback_counts(scores, utilities)
    assert counts["usage"].tolist() == [0, 1, 1]
    assert (counts["agreement"].tolist(), counts["regret"].tolist()) == ([2, 2], [0, 2])


def test_of_equal_scores_the_first_is_chosen():
    """Usage would count another prompt than decoding takes."""
    scores = torch.tensor([[1.0], [1.0], [0.0]])
    assert chosen_candidates(scores).tolist() == [0]
    assert chosen_candidates(scores, torch.tensor([[False], [True], [True]])).tolist() == [1]


def test_one_candidate_teaches_nothing_and_is_always_right():
    """K = 1 is prompt tuning; a loss or a regret there would be one of rounding."""
    scores = SCORES[:1].clone().requires_grad_()
    feedback_kl(scores, UTILITIES[:1]).backward()
    assert scores.grad.tolist() == [[0, 0]]
    scores.grad = None
    policy_gradient_loss(scores, UTILITIES[:1]).backward()
    assert scores.grad.tolist() == [[0, 0]]
    assert row_of(feedback_counts(SCORES[:1], UTILITIES[:1])) == {
        "document_share": [1.0],
        "document_entropy": 0.0,
        "agreement": 1.0,
        "regret": 0.0,
    }


def test_figures_are_of_the_examples_that_have_candidates():
    """Empty profiles that count as wrong choices make every scorer look worse than it is."""
    mask = torch.tensor([[True, False], [True, False], [True, False]])
    empty = feedback_counts(SCORES, UTILITIES, torch.zeros_like(mask))
    row = row_of(feedback_counts(SCORES, UTILITIES, mask), empty)
    assert (row["agreement"], row["regret"], row["document_share"]) == (1.0, 0.0, [0.0, 0.0, 1.0])
    assert row_of(empty) == {
        "document_share": [0.0, 0.0, 0.0],
        "document_entropy": 0.0,
        "agreement": 0.0,
        "regret": 0.0,
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_with_padding(dtype):
    """The lowest number of float32 is minus infinity in float16, and a column of it NaN."""
    mask = TWO.clone()
    mask[:, 1] = False
    scores = SCORES.to(dtype).requires_grad_()
    for loss in (feedback_kl, policy_gradient_loss):
        value = loss(scores, UTILITIES.to(dtype), tau_sim=0.1, mask=mask)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(scores.grad).all()
    counts = feedback_counts(scores.expand(3, 2).repeat(1, 300), UTILITIES.to(dtype).repeat(1, 300))
    assert counts["agreement"].tolist() == [300, 600]  # 257 and more are no numbers of bf16
    assert counts["regret"].tolist() == [2700, 600]


def test_sums_become_figures_of_a_row():
    """Shares of two batches that are averaged, or a regret per batch, depend on how the file was cut."""
    batches = [feedback_counts(SCORES[:2], UTILITIES[:2]), feedback_counts(SCORES[:2, :1], UTILITIES[:2, :1])]
    assert feedback_reducers("document").keys() == batches[0].keys()
    assert row_of(*batches) == {
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
