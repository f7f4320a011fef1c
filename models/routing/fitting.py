"""Routers fitted on what every prompt costs (docs/method.md, section 6): pure functions of arrays.

K prompts, n examples. All routers are linear in the features of an example, so that one file holds any of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.routing.features import TURNS, turn_features
from models.routing.measuring import Measured

FOLDS = 5
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
COMPONENTS = 32
"""of each mean of hidden states; fewer dialogues than these dimensions cannot tell more of them apart"""
ROUTERS = ("fixed", "turn", "linear")
"""from the simplest one on"""


@dataclass(frozen=True, slots=True)
class LinearRouter:
    """Scores [K, n] of features [n, F], the highest of which is chosen."""

    weight: np.ndarray  # [K, F] float64; F = C + TURNS, `all_features`
    bias: np.ndarray  # [K] float64

    @property
    def reads_context(self) -> bool:
        """Whether it looks at more than the turn's number; else the LM need not read the text for it."""
        return bool(np.any(self.weight[:, :-TURNS]))

    def scores(self, features: np.ndarray) -> np.ndarray:
        """[K, n] float64 of features [n, F]."""
        return self.weight @ features.T + self.bias[:, None]


def all_features(measured: Measured) -> np.ndarray:
    """[n, C + TURNS]: what the LM makes of the context, and the turn's number."""
    return np.concatenate([measured.context, turn_features(measured.turns)], axis=1)


def fit_router(name: str, measured: Measured) -> tuple[LinearRouter, float]:
    """One of `ROUTERS`.

    Returns:
        The router, and its mean loss per token on dialogues of `measured` that it was not fitted on (FOLDS-fold
        cross-validation, which chooses the penalty too).
    """
    losses, width = measured.losses, measured.context.shape[1]
    folds = list(dialogue_folds(measured.dialogues))
    if name == "fixed":
        chosen = [int(losses[:, kept].sum(axis=1).argmin()) for kept, _ in folds]
        out_of_fold = sum(losses[k, left].sum() for k, (_, left) in zip(chosen, folds, strict=True))
        means = losses.mean(axis=1)
        return LinearRouter(np.zeros((len(losses), width + TURNS)), means.min() - means), float(
            out_of_fold / measured.tokens.sum()
        )
    turns = turn_features(measured.turns)
    projection = np.zeros((width, 0))
    if name == "linear":
        parts = np.split(measured.context, 2, axis=1)
        blocks = [whitening(part, COMPONENTS) for part in parts]
        projection = np.zeros((width, sum(block.shape[1] for block in blocks)))
        projection[: width // 2, : blocks[0].shape[1]] = blocks[0]
        projection[width // 2 :, blocks[0].shape[1] :] = blocks[1]
    means = np.concatenate([measured.context.mean(axis=0), turns.mean(axis=0)])
    features = np.concatenate(
        [(measured.context - means[:width]) @ projection, turns - means[width:]], axis=1
    )
    costs = []
    for penalty in PENALTIES:
        cost = 0.0
        for kept, left in folds:
            weight, bias = fit_softmax(features[kept], losses[:, kept], penalty)
            choice = (weight @ features[left].T + bias[:, None]).argmax(axis=0)
            cost += losses[:, left][choice, np.arange(len(left))].sum()
        costs.append(cost)
    # of equal ones the largest penalty
    best = len(costs) - 1 - int(np.argmin(costs[::-1]))
    weight, bias = fit_softmax(features, losses, PENALTIES[best])
    count = projection.shape[1]
    of_features = np.concatenate([weight[:, :count] @ projection.T, weight[:, count:]], axis=1)
    return LinearRouter(of_features, bias - of_features @ means), float(costs[best] / measured.tokens.sum())


def fit_softmax(features: np.ndarray, losses: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases whose softmax comes closest to the prompts' probabilities given the response.

    They minimise the mean over examples of KL(softmax over k of -losses || softmax over k of scores), plus
    `penalty` times the sum of squared weights; biases are free. It is convex, and the targets are bounded: one long
    response weighs no more than any other.

    Args:
        features: [n, F], centred.
        losses: [K, n] summed over the response's tokens, nats.
        penalty: at least 0.

    Returns:
        [K, F], [K].
    """
    inputs = torch.from_numpy(features)
    target = F.softmax(-torch.from_numpy(losses), dim=0).T  # [n, K]
    weight = torch.zeros(len(losses), features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = target.mean(dim=0).clamp(min=1e-9).log().requires_grad_()
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimiser.zero_grad()
        log_shares = F.log_softmax(inputs @ weight.T + bias, dim=1)
        value = -(target * log_shares).sum(dim=1).mean() + penalty * weight.square().sum()
        value.backward()
        return value

    optimiser.step(objective)  # type: ignore[no-untyped-call]
    return weight.detach().numpy(), bias.detach().numpy()


def whitening(vectors: np.ndarray, components: int) -> np.ndarray:
    """[F, r]: takes centred vectors to their r <= `components` largest principal components, each of variance 1.

    Components without variance are left out.

    Args:
        vectors: [n, F].
        components: how many at most.
    """
    centred = vectors - vectors.mean(axis=0)
    variances, axes = np.linalg.eigh(centred.T @ centred / max(1, len(vectors) - 1))  # ascending
    variances, axes = variances[::-1][:components], axes[:, ::-1][:, :components]
    real = variances > 1e-10 * max(variances[0], 1e-300)
    return axes[:, real] / np.sqrt(variances[real])


def dialogue_folds(dialogues: np.ndarray, folds: int = FOLDS) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(places that are kept, places that are left out) of each fold; a dialogue [n] is never in both."""
    names, of_example = np.unique(dialogues, return_inverse=True)
    part = np.random.default_rng(0).permutation(len(names)) % folds
    for number in range(min(folds, len(names))):
        left = part[of_example] == number
        yield np.flatnonzero(~left), np.flatnonzero(left)
