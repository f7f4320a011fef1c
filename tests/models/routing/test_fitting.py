"""Routers fitted on losses whose best prompts are known."""

import numpy as np
import pytest
import torch

from models.routing.features import TURNS
from models.routing.fitting import (
    FOLDS,
    ROUTERS,
    dialogue_folds,
    fit_fixed,
    fit_linear,
    fit_softmax,
    fit_turn,
)
from models.routing.measuring import Measured

DIALOGUES, LENGTH = 30, 4
COUNT = DIALOGUES * LENGTH


def measured(gains, seed=0):
    """Losses [2, n] that differ by `gains` [n] in favour of prompt 1, of drawn contexts [n, 8]."""
    generator = np.random.default_rng(seed)
    context = 3 + generator.normal(size=(COUNT, 8))
    turns = np.tile(np.arange(LENGTH), DIALOGUES)
    difficulty = 40 + 5 * generator.normal(size=COUNT)
    losses = np.stack([difficulty, difficulty - gains(context, turns)])
    dialogues = np.repeat(np.arange(DIALOGUES), LENGTH)
    return Measured(losses, np.full(COUNT, 10), context, turns, dialogues, np.zeros(COUNT, dtype=np.int64))


def choice_of(router, examples):
    """The chosen prompts [n]."""
    return router.scores(examples.context, examples.turns).argmax(axis=0)


def by_context(context, turns):
    """Prompt 1 is better where the first number of the context is above its mean."""
    return 4 * np.sign(context[:, 0] - 3)


def by_turn(context, turns):
    """Prompt 1 is better in all turns but the first, in which it is much worse."""
    return np.where(turns == 0, -8.0, 2.0)


def test_the_linear_router_finds_what_the_context_says():
    """Weights that are put back wrongly after whitening choose at random on other dialogues."""
    other = measured(by_context, seed=1)
    router, loss = fit_linear(measured(by_context))
    assert (choice_of(router, other) == other.losses.argmin(axis=0)).mean() > 0.9
    assert router.reads_context
    turn, loss_by_turn = fit_turn(measured(by_context))
    assert not turn.reads_context
    assert loss < loss_by_turn - 0.1


def test_a_fixed_prompt_is_the_best_over_all_and_turns_are_told_apart():
    """Compared with a prompt that is not the best one, every router looks good."""
    examples = measured(by_turn)
    fixed, loss = fit_fixed(examples)
    assert set(choice_of(fixed, examples)) == {int(examples.losses.sum(axis=1).argmin())}
    turn, loss_by_turn = fit_turn(examples)
    np.testing.assert_array_equal(choice_of(turn, examples), examples.turns > 0)
    assert loss_by_turn == pytest.approx(examples.losses.min(axis=0).sum() / examples.tokens.sum())
    assert loss_by_turn < loss


def test_the_loss_that_is_told_is_of_dialogues_left_out():
    """Noise that is learnt by heart passes for a router that helps."""
    noise = np.random.default_rng(5).choice([-6.0, 6.0], size=COUNT)
    examples = measured(lambda context, turns: noise)
    for fit in ROUTERS.values():
        _, loss = fit(examples)
        assert loss > (examples.losses.min(axis=0).sum() + 0.25 * 6 * COUNT) / examples.tokens.sum()


def test_folds_never_divide_a_dialogue():
    """Examples of a dialogue are alike: a fold that has some of one tells the router what it is measured on."""
    dialogues = np.repeat([3, 8, 9, 11, 20, 21, 30], 5)
    folds = list(dialogue_folds(dialogues))
    assert len(folds) == FOLDS
    assert sorted(np.concatenate([left for _, left in folds])) == list(range(len(dialogues)))
    for kept, left in folds:
        assert not set(dialogues[kept]) & set(dialogues[left])
        assert len(kept) + len(left) == len(dialogues)


def test_biases_alone_give_the_mean_of_the_targets():
    """With sums of losses the target is Bayes' rule: a target of means, or of another sign, gives other shares."""
    losses = np.array([[10.0, 12.0, 9.0], [11.0, 10.0, 9.5]])
    _, bias = fit_softmax(np.zeros((3, 1)), losses, 1.0)
    shares = np.exp(bias) / np.exp(bias).sum()
    wanted = torch.softmax(-torch.from_numpy(losses), dim=0).mean(dim=1)
    np.testing.assert_allclose(shares, wanted, rtol=1e-4)


def test_contexts_that_are_all_the_same_are_no_error():
    """Five dialogues with one message each would end the report with a traceback."""
    examples = measured(by_turn)
    examples.context[:] = 1.5
    router, _ = fit_linear(examples)
    assert not router.reads_context
    assert router.of_turns.shape == (2, TURNS)
