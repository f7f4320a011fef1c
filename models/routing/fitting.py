"""Routers fitted on what every prompt costs (docs/method.md, section 6): pure functions of arrays.

K prompts, n examples.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.routing.features import TURNS, turn_features
from models.routing.measuring import Measured
from models.routing.router import LinearRouter
from models.whitening import moments_of, whitening_of

FOLDS = 5
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
COMPONENTS = 32
"""of each mean of hidden states, the strongest: a few hundred dialogues cannot teach more weights"""


def fit_fixed(measured: Measured) -> tuple[LinearRouter, float]:
    """The prompt with the lowest loss over all, for everything; returns as `fit_linear`."""
    losses = measured.losses
    held_out = 0.0
    for kept, left in dialogue_folds(measured.dialogues):
        held_out += float(losses[losses[:, kept].sum(axis=1).argmin()][left].sum())
    zeros = np.zeros((len(losses), measured.context.shape[1])), np.zeros((len(losses), TURNS))
    return LinearRouter(*zeros, -losses.sum(axis=1)), held_out / measured.tokens.sum()


def fit_turn(measured: Measured) -> tuple[LinearRouter, float]:
    """By the number of the turn alone; returns as `fit_linear`."""
    return _fit(measured, np.zeros((measured.context.shape[1], 0)))


def fit_linear(measured: Measured) -> tuple[LinearRouter, float]:
    """By whitened means of hidden states and the number of the turn.

    Returns:
        The router, and the loss per token (nats) that such routers have on dialogues which they were not fitted on,
        by cross-validation within `measured`.
    """
    width = measured.context.shape[1]
    blocks = [_projection(part) for part in np.split(measured.context, 2, axis=1)]
    joined = np.zeros((width, sum(block.shape[1] for block in blocks)))
    joined[: width // 2, : blocks[0].shape[1]] = blocks[0]
    joined[width // 2 :, blocks[0].shape[1] :] = blocks[1]
    return _fit(measured, joined)


ROUTERS: dict[str, Callable[[Measured], tuple[LinearRouter, float]]] = {
    "fixed": fit_fixed,
    "turn": fit_turn,
    "linear": fit_linear,
}
"""from the simplest one on"""


def _projection(vectors: np.ndarray) -> np.ndarray:
    """[F, r]: from vectors [n, F] to their whitened principal components; r is 0 where all vectors are the same."""
    if np.allclose(vectors, vectors[0]):
        return np.zeros((vectors.shape[1], 0))
    whitening = whitening_of(moments_of(torch.from_numpy(vectors)), kind="pca")
    return whitening.matrix[:COMPONENTS].T.numpy()


def _fit(measured: Measured, projection: np.ndarray) -> tuple[LinearRouter, float]:
    """By `projection` [C, r] of the context and by the turn, with the penalty that cross-validation finds best."""
    losses = measured.losses
    of_turns = turn_features(measured.turns)  # [n, TURNS]
    mean_context, mean_turns = measured.context.mean(axis=0), of_turns.mean(axis=0)
    features = np.concatenate([(measured.context - mean_context) @ projection, of_turns - mean_turns], axis=1)
    held_out = dict.fromkeys(sorted(PENALTIES, reverse=True), 0.0)  # of equal ones the largest is taken
    for kept, left in dialogue_folds(measured.dialogues):
        found = None
        for penalty in held_out:
            found = fit_softmax(features[kept], losses[:, kept], penalty, found)
            choice = (found[0] @ features[left].T + found[1][:, None]).argmax(axis=0)
            held_out[penalty] += losses[:, left][choice, np.arange(len(left))].sum()
    best = min(held_out, key=lambda penalty: held_out[penalty])
    weight, bias = fit_softmax(features, losses, best)
    of_projected, turn_weight = np.split(weight, [projection.shape[1]], axis=1)
    context_weight = of_projected @ projection.T  # [K, C]
    bias = bias - context_weight @ mean_context - turn_weight @ mean_turns
    return LinearRouter(context_weight, turn_weight, bias), held_out[best] / float(measured.tokens.sum())


def fit_softmax(
    features: np.ndarray,
    losses: np.ndarray,
    penalty: float,
    start: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases whose softmax comes closest to the prompts' probabilities given the response.

    They minimise the mean over examples of KL(softmax over k of -losses || softmax over k of scores), plus `penalty`
    times the sum of squared weights; biases are free. The objective is convex, and its targets are bounded: one long
    response weighs no more than any other.

    Args:
        features: [n, F], centred.
        losses: [K, n] summed over the response's tokens, nats.
        penalty: above 0.
        start: what the search begins with, such as the result for another penalty.

    Returns:
        [K, F], [K].
    """
    inputs = torch.from_numpy(features)
    target = F.softmax(-torch.from_numpy(losses), dim=0).T  # [n, K]
    weight = torch.zeros(len(losses), features.shape[1], dtype=torch.float64)
    bias = target.mean(dim=0).clamp(min=1e-9).log()
    if start is not None:
        weight, bias = (torch.from_numpy(values.copy()) for values in start)
    weight.requires_grad_()
    bias.requires_grad_()
    optimiser = torch.optim.LBFGS(
        [weight, bias],
        max_iter=100,
        tolerance_grad=1e-5,
        tolerance_change=1e-7,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        optimiser.zero_grad()
        log_shares = F.log_softmax(inputs @ weight.T + bias, dim=1)
        value = -(target * log_shares).sum(dim=1).mean() + penalty * weight.square().sum()
        value.backward()
        return value

    optimiser.step(objective)
    return weight.detach().numpy(), bias.detach().numpy()


def dialogue_folds(dialogues: np.ndarray, folds: int = FOLDS) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(places that are kept, places that are left out) of each fold; a dialogue of `dialogues` [n] is never in both."""
    names, of_example = np.unique(dialogues, return_inverse=True)
    fold = np.random.default_rng(0).permutation(len(names)) % folds
    for number in range(min(folds, len(names))):
        left = fold[of_example] == number
        yield np.flatnonzero(~left), np.flatnonzero(left)
