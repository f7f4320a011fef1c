"""What the choice of a prompt is worth: beside each prompt alone, the best one of every example, and chance.

K prompts, B examples. Everything is a sum over examples, so that batches and ranks add up; docs/method.md, section 4,
has the formulas.
"""

from collections.abc import Mapping
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from models.feedback import chosen_candidates
from models.trainable import Reducer

_PROJECTED = 128
_NO_SPREAD = 1e-9
"""a smaller variance of vectors of length 1 is rounding: they are equal"""


def choice_sums(losses: Tensor, num_tokens: int, scores: Tensor | None = None) -> dict[str, Tensor]:
    """The sums that `CHOICE_REDUCERS` make figures of.

    Args:
        losses: [K, B] summed target cross-entropies, nats.
        num_tokens: target tokens of all examples together.
        scores: [K, B], the highest one is chosen; None: the prompt is drawn, and its loss is the expectation.
    """
    losses = losses.detach().double()
    best = losses.amin(dim=0)  # [B]
    sums = {}
    if scores is None:
        chosen = losses.mean(dim=0)
    else:
        choice = chosen_candidates(scores)  # [B]
        chosen = losses.gather(0, choice[None])[0]
        usage = F.one_hot(choice, len(losses)).T.double()
        sums["choices"] = torch.stack([usage.sum(dim=1), (losses == best).sum(dim=1)])
    squares = (chosen - losses).square().sum(dim=1)  # [K]
    tokens = losses.new_full((), num_tokens)
    sums["losses"] = torch.cat([losses.sum(dim=1), squares, torch.stack([chosen.sum(), best.sum(), tokens])])
    return sums


def _loss_figures(total: Tensor, num_examples: int) -> dict[str, float | list[float]]:
    num_prompts = (len(total) - 3) // 2
    sums, squares, (chosen, best, tokens) = total.split([num_prompts, num_prompts, 3])
    tokens = tokens.clamp(min=1)
    fixed = int(sums.argmin())
    # sum of squares about the mean of the differences, examples taken as independent
    spread = (squares[fixed] - (chosen - sums[fixed]).square() / max(1, num_examples)).clamp(min=0)
    correction = num_examples / max(1, num_examples - 1)
    return {
        "prompt_loss": (sums / tokens).tolist(),
        "fixed_prompt": fixed,
        "fixed_loss": float(sums[fixed] / tokens),
        "chosen_loss": float(chosen / tokens),
        "random_loss": float(sums.mean() / tokens),
        "oracle_loss": float(best / tokens),
        "choice_error": float((correction * spread).sqrt() / tokens),
    }


def _choice_figures(total: Tensor, num_examples: int) -> dict[str, float | list[float]]:
    usage, best = total / max(1, num_examples)  # [K] each
    return {"best_share": best.tolist(), "agreement_by_chance": float(usage @ best)}


CHOICE_REDUCERS: Mapping[str, Reducer] = {"losses": _loss_figures, "choices": _choice_figures}
"""Losses in nats per target token: `prompt_loss` [K] of each prompt alone; `fixed_loss`, the lowest of them, and its
`fixed_prompt`; `chosen_loss`, `random_loss`, `oracle_loss`; `choice_error`, the standard error of chosen_loss -
fixed_loss. `best_share` [K]: for what share of the examples a prompt has the lowest loss; `agreement_by_chance`: how
often the choice would be the best one if it were as often each prompt, and knew nothing of the example."""


def spread_sums(vectors: Tensor) -> Tensor:
    """What `spread_reducer` makes figures of, from vectors [B, D] that are made of length 1: [M + 1, D] float64.

    Their sum, and below it their second moment, projected to M = min(D, 128) dimensions on one side: adding it up
    whole would take a twelfth of the time of a small batch.
    """
    units = F.normalize(vectors.detach().double(), dim=1)
    projection = _projection(units.shape[1], units.device)  # [D, M]
    return torch.cat([units.sum(dim=0, keepdim=True), (units @ projection).T @ units])


@lru_cache
def _projection(width: int, device: torch.device) -> Tensor:
    """[D, M] Gaussian, the same everywhere; the identity where D is small."""
    if width <= _PROJECTED:
        return torch.eye(width, dtype=torch.float64, device=device)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(width, _PROJECTED, generator=generator, dtype=torch.float64).to(device)


def spread_reducer(name: str) -> Reducer:
    """How the sums of `spread_sums` become figures of a row.

    Returns:
        A reducer that gives `{name}_cosine`, the mean cosine between two different vectors, and `{name}_dimensions`,
        tr(C)^2 / tr(C^2) of the covariance C of the vectors of length 1: D where they differ in all directions alike, 1
        where in one only, 0 where they are equal. Above 128 dimensions it is estimated. Nothing for fewer than two
        vectors.
    """

    def reduce(total: Tensor, num_examples: int) -> dict[str, float | list[float]]:
        if num_examples < 2:
            return {}
        mean = total[0] / num_examples  # [D]
        projection = _projection(len(mean), total.device)
        shift = mean @ projection  # [M]
        covariance = total[1:] @ projection / num_examples - torch.outer(shift, shift)  # [M, M]
        dimensions = 0.0
        if covariance.trace() > _NO_SPREAD:
            share = covariance.square().sum() / covariance.trace().square()
            if len(shift) < len(mean):  # a projection alone makes directions overlap by 1 / M
                share = (share - 1 / len(shift)) / (1 - 1 / len(shift))
            dimensions = float(1 / share.clamp(min=1 / len(mean)))
        # of n vectors of length 1, n pairs are of a vector with itself
        cosine = (num_examples * mean.square().sum() - 1) / (num_examples - 1)
        return {f"{name}_cosine": float(cosine), f"{name}_dimensions": dimensions}

    return reduce
