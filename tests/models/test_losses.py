"""The losses as arithmetic: against numbers worked out by hand, and on inputs where a formula degenerates."""

from math import log

import pytest
import torch

from models.losses import (
    annealing_weights,
    contrastive_loss,
    example_losses,
    fusion_loss,
    llm_loss,
    posterior_assignment,
    selection_loss,
    turn_assignment,
)

# softmax(-(0, ln 3)) = (3/4, 1/4); against r = (1/2, 1/2): 3/4 ln(3/2) + 1/4 ln(1/2)
GOLD_THREE_TO_ONE = torch.tensor([[0.0], [log(3)]])
KL_TO_UNIFORM = 0.75 * log(1.5) + 0.25 * log(0.5)


def test_llm_loss_is_the_mean_over_prompts_and_tokens():
    """A mean per prompt or per example first would weigh short responses more: (1 + 2 + 3 + 6) / 4 = 3."""
    losses = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    assert llm_loss(losses).item() == pytest.approx(3)
    # (1*1 + 0*2 + 0.5*3 + 0.5*6) / 4 = 1.375: the weights scale the losses, they are not normalised
    assert llm_loss(losses, torch.tensor([[1.0, 0.0], [0.5, 0.5]])).item() == pytest.approx(1.375)


def test_turns_are_assigned_one_prompt_each_and_the_rest_the_last():
    """Turns modulo K would give the first turn and a later one to the same prompt."""
    assert turn_assignment(torch.tensor([0, 1, 2, 7]), 2).T.tolist() == [[1, 0], [0, 1], [0, 1], [0, 1]]
    assert turn_assignment(torch.tensor([0, 1, 2, 7]), 3).argmax(dim=0).tolist() == [0, 1, 2, 2]
    assert turn_assignment(torch.tensor([0, 5]), 1).tolist() == [[1, 1]]


def test_posterior_shares_are_bayes_rule():
    """exp(-loss) is the response's probability: of losses 0 and 2 ln 3 at temperature 2, 3 to 1."""
    losses = (2 * GOLD_THREE_TO_ONE).requires_grad_()
    shares = posterior_assignment(losses, tau=2.0)
    assert shares.flatten().tolist() == pytest.approx([0.75, 0.25])
    assert not shares.requires_grad


def test_example_losses_are_means_and_an_example_without_targets_counts_as_zero():
    """A division by no tokens would give nan, and one nan would take every prompt with it."""
    losses = torch.tensor([[1.0, 3.0, 5.0], [2.0, 2.0, 7.0]], requires_grad=True)
    means = example_losses(losses, torch.tensor([0, 0, 2]), 3)
    assert means.tolist() == [[2, 0, 5], [2, 0, 7]]
    means.sum().backward()
    assert losses.grad.tolist() == [[0.5, 0.5, 1], [0.5, 0.5, 1]]


def test_selection_loss_is_the_divergence_of_the_scores_from_the_lms_preference():
    """KL the other way round, or a mean over K x B, trains the retriever at a plausible-looking loss."""
    assert selection_loss(torch.zeros(2, 1), GOLD_THREE_TO_ONE).item() == pytest.approx(KL_TO_UNIFORM)
    # the second example agrees: softmax((ln 3, 0)) = (3/4, 1/4), so the mean over two examples is the half
    scores = torch.tensor([[0.0, log(3)], [0.0, 0.0]])
    both = selection_loss(scores, GOLD_THREE_TO_ONE.expand(2, 2))
    assert both.item() == pytest.approx(KL_TO_UNIFORM / 2, abs=1e-7)


def test_the_temperatures_divide_losses_and_scores():
    """Swapped or inverted temperatures go unnoticed as long as both are 1."""
    # gold: (0, 2 ln 3) / 2 -> (3/4, 1/4);  r: (ln 3 / 2, 0) / 0.5 -> (3/4, 1/4);  the same, so 0
    loss = selection_loss(torch.tensor([[log(3) / 2], [0.0]]), 2 * GOLD_THREE_TO_ONE, tau_gold=2, tau_sim=0.5)
    assert loss.item() == pytest.approx(0, abs=1e-7)


def test_selection_teaches_the_scores_and_not_the_lm():
    """Were the LM's losses not detached, the prompts would be trained to please the retriever."""
    scores = torch.zeros(2, 1, requires_grad=True)
    losses = GOLD_THREE_TO_ONE.clone().requires_grad_()
    selection_loss(scores, losses, tau_sim=0.5).backward()
    # (r - gold) / tau_sim = (1/2 - 3/4, 1/2 - 1/4) / 0.5
    assert scores.grad.flatten().tolist() == pytest.approx([-0.5, 0.5])
    assert losses.grad is None


def test_one_prompt_leaves_nothing_to_select():
    """With K = 1 both distributions are the constant 1; anything but 0 would move the scores."""
    scores = torch.tensor([[0.3, -2.0]], requires_grad=True)
    loss = selection_loss(scores, torch.tensor([[4.0, 1.0]]))
    loss.backward()
    assert loss.item() == 0
    assert scores.grad.tolist() == [[0, 0]]


def test_noise_that_makes_the_preference_negative_stays_finite():
    """log of a negative number is nan, and adding_noise 0.1 meets it within a few steps."""
    scores = torch.zeros(2, 1, requires_grad=True)
    loss = selection_loss(scores, GOLD_THREE_TO_ONE, noise=torch.tensor([[0.5], [-0.5]]))
    loss.backward()
    # gold + noise = (5/4, -1/4): 5/4 ln(5/4) + 0 - (5/4 - 1/4) ln(1/2)
    assert loss.item() == pytest.approx(1.25 * log(1.25) + log(2))
    # of the plain formula: r * sum(gold) - gold = (1/2 - 5/4, 1/2 + 1/4)
    assert scores.grad.flatten().tolist() == pytest.approx([-0.75, 0.75])


def test_noise_is_added_to_the_preference_itself():
    """Noise on the losses or inside the softmax is another method; here (3/4, 1/4) becomes (1/2, 1/2)."""
    noise = torch.tensor([[-0.25], [0.25]])
    assert selection_loss(torch.zeros(2, 1), GOLD_THREE_TO_ONE, noise=noise).item() == pytest.approx(
        0, abs=1e-7
    )


def test_fusion_loss_is_the_mean_of_the_examples_means():
    """A mean over all tokens would be (1 + 3 + 10) / 3; within examples first it is (2 + 10) / 2 = 6."""
    example_of_token = torch.tensor([0, 0, 1])
    assert fusion_loss(torch.tensor([1.0, 3.0, 10.0]), example_of_token, 2).item() == pytest.approx(6)


@pytest.mark.parametrize(
    ("pair_labels", "loss"),
    [
        ([1, -1, -1], (0.4 + 0 + 0.8) / 3),
        ([-1, 1, -1], (0.6 + 1 + 0.8) / 3),
        ([-1, -1, 1], (0.6 + 0 + 0.2) / 3),
    ],
)
def test_contrastive_loss_by_hand(pair_labels, loss):
    """A label on the wrong pair pulls strangers together; cosines are 0.6 (0,1), 0 (0,2), 0.8 (1,2)."""
    scores = torch.tensor([[1.0, 3.0, 0.0], [0.0, 4.0, 1.0]])  # columns (1, 0), (3, 4), (0, 1)
    assert contrastive_loss(scores, torch.tensor(pair_labels, dtype=torch.float32)).item() == pytest.approx(
        loss
    )


def test_one_example_has_no_pair():
    """The mean over no pair is nan, and the last batch of an epoch often holds one example."""
    scores = torch.rand(4, 1, requires_grad=True)
    loss = contrastive_loss(scores, torch.zeros(0))
    loss.backward()
    assert loss.item() == 0
    assert scores.grad.abs().max() == 0


def test_scores_of_zero_keep_the_contrastive_gradient_finite():
    """relu gives whole columns of zeros; a cosine without a floor under its norm would divide by it."""
    scores = torch.zeros(3, 2, requires_grad=True)
    contrastive_loss(scores, torch.ones(1)).backward()
    assert torch.isfinite(scores.grad).all()


@pytest.mark.parametrize(
    ("scalar", "progress", "expected"),
    [(1.0, 0.0, [0.3, 0.6]), (2.0, 0.5, [0.3, 0.6]), (1.6, 0.5, [0.3, 0.6]), (4.0, 0.9, [0.3, 0.3])],
)
def test_annealing_weights_fall_with_progress_between_their_limits(scalar, progress, expected):
    """Weights that rise, or leave [min, max], switch the LM loss off or blow it up.

    softmax((0, ln 3)) = (1/4, 3/4); times scalar * (1 - progress), clamped to [0.3, 0.6].
    """
    scores = torch.tensor([[0.0], [log(3)]], requires_grad=True)
    weights = annealing_weights(scores, progress, scalar, 0.3, 0.6)
    assert weights.flatten().tolist() == pytest.approx(expected)
    assert not weights.requires_grad


def test_annealing_weights_within_the_limits_are_the_formula():
    """A clamp to [0, 1] whatever the limits say would hide behind the default limits: 2 * 0.8 * (1/4, 3/4)."""
    weights = annealing_weights(torch.tensor([[0.0], [log(3)]]), 0.2, 2.0, 0.0, 5.0)
    assert weights.flatten().tolist() == pytest.approx([0.4, 1.2])


def test_contrastive_labels_must_fit_the_pairs():
    """One label would be broadcast over all pairs, and none would give nan, both without a word."""
    scores = torch.rand(2, 3)
    for count in (0, 1, 2):
        with pytest.raises(ValueError, match="3 examples have 3 pairs"):
            contrastive_loss(scores, torch.ones(count))
