"""What a scorer of candidates learns from the utility that a frozen LM found in each of them, and how well it chooses.

C candidates, B examples; scores and utilities are [C, B]. In SPT the candidates are the soft prompts and a utility is
minus the LM's loss (paper, section 3.3); they may as well be documents and a metric.

Where examples have fewer than C candidates, `mask` [C, B] is False for what is only padding; the numbers there may be
anything, NaN included. An example without any candidate counts for nothing.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from models.trainable import Reducer


def feedback_kl(
    scores: Tensor,
    utilities: Tensor,
    tau_gold: float = 1.0,
    tau_sim: float = 1.0,
    mask: Tensor | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """KL(gold || r), gold = softmax(utilities / tau_gold), r = softmax(scores / tau_sim), over the candidates.

    With one candidate both are constant and the loss is 0.

    Args:
        scores: [C, B]; the gradient flows here only.
        utilities: [C, B], higher is better; detached.
        tau_gold: temperature of the LM's preference.
        tau_sim: temperature of the scores.
        mask: [C, B] bool, False where an example has fewer than C candidates; None when all are real.
        noise: [C, B] added to gold. Where gold becomes negative its own entropy counts as 0: it is a constant,
            and so the gradient is that of the plain formula.

    Returns:
        The sum over candidates, averaged over the examples that have any.
    """
    log_r = F.log_softmax(_masked(scores / tau_sim, mask), dim=0)
    gold = F.softmax(_masked(utilities.detach() / tau_gold, mask), dim=0)
    if noise is not None:
        gold = gold + noise
    if mask is not None:
        gold, log_r = gold.masked_fill(~mask, 0), log_r.masked_fill(~mask, 0)
    positive = gold.clamp(min=0)
    return (torch.xlogy(positive, positive) - gold * log_r).sum() / _num_examples(scores, mask)


def policy_gradient_loss(
    scores: Tensor,
    utilities: Tensor,
    tau_sim: float = 1.0,
    mask: Tensor | None = None,
    baseline: Tensor | None = None,
    actions: Tensor | None = None,
) -> Tensor:
    """Minus the reward of the policy softmax(scores / tau_sim), in expectation or for drawn actions (REINFORCE).

    Args:
        scores: [C, B]; the gradient flows here only.
        utilities: [C, B], higher is better; detached.
        tau_sim: temperature of the policy.
        mask: [C, B] bool, False where an example has fewer than C candidates; None when all are real.
        baseline: [B], taken off each example's utilities; it changes the gradient of drawn actions only.
        actions: [B] candidates that were drawn; None: the exact expectation over all candidates.

    Returns:
        The mean over the examples that have candidates: of -sum over c of policy * reward, or of
        -reward * log policy of the drawn candidate.
    """
    rewards = utilities.detach()
    if mask is not None:  # before the product: its gradient would be 0 * NaN
        rewards = rewards.masked_fill(~mask, 0)
    if baseline is not None:
        rewards = rewards - baseline.detach()
    log_policy = F.log_softmax(_masked(scores / tau_sim, mask), dim=0)
    gains = log_policy.exp() * rewards if actions is None else log_policy * rewards
    if mask is not None:
        gains = gains.masked_fill(~mask, 0)
    if actions is not None:
        gains = gains.gather(0, actions[None])
    return -gains.sum() / _num_examples(scores, mask)


def chosen_candidates(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """The candidate with the highest score of each example: [B]; the first one of several."""
    return _masked(scores.detach(), mask).argmax(dim=0)


def regrets(scores: Tensor, utilities: Tensor, mask: Tensor | None = None) -> Tensor:
    """The highest utility of each example minus that of the chosen candidate: [B], at least 0.

    0 means agreement: none is better than the chosen one. It is 0, too, for an example without candidates.
    """
    utilities = _masked(utilities.detach(), mask)
    return utilities.amax(dim=0) - utilities.gather(0, chosen_candidates(scores, mask)[None])[0]


def feedback_counts(scores: Tensor, utilities: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
    """How well the scores choose, as sums over the examples, so that batches and ranks add up.

    Args:
        scores: [C, B].
        utilities: [C, B], higher is better.
        mask: [C, B] bool, False where an example has fewer than C candidates; None when all are real.

    Returns:
        usage [C]: how often each candidate has the highest score; agreement [2]: how often no candidate has a higher
        utility than that one, and the number of examples that have candidates; regret [2]: the sum of `regrets`, and
        that number.
    """
    has_candidates = torch.ones_like(scores[0], dtype=torch.bool) if mask is None else mask.any(dim=0)  # [B]
    ones, regret = has_candidates.long(), regrets(scores, utilities, mask).float()
    usage = ones.new_zeros(scores.shape[0]).index_add(0, chosen_candidates(scores, mask), ones)
    return {
        "usage": usage,
        "agreement": torch.stack([((regret == 0) & has_candidates).sum(), ones.sum()]),
        "regret": torch.stack([(regret * ones).sum(), ones.sum()]),
    }


def feedback_reducers(candidate: str) -> Mapping[str, Reducer]:
    """How the sums of `feedback_counts` become figures of a row.

    Args:
        candidate: what a candidate is called in the names of figures, such as "prompt".

    Returns:
        Reducers that give `{candidate}_share` [C], `{candidate}_entropy` (nats, at most log C), agreement (share
        of examples for which no candidate has a higher utility than the chosen one) and regret (a mean, in units of
        the utility); all of them over the examples that have candidates.
    """

    def usage(total: Tensor, num_examples: int) -> dict[str, float | list[float]]:
        shares = (total / total.sum().clamp(min=1)).tolist()
        return {f"{candidate}_share": shares, f"{candidate}_entropy": usage_entropy(total).item()}

    return {"usage": usage, "agreement": _mean("agreement"), "regret": _mean("regret")}


def preference_entropies(utilities: Tensor, tau_gold: float = 1.0) -> Tensor:
    """Entropy of softmax(utilities / tau_gold) over the candidates, as a share of the largest possible one.

    Args:
        utilities: [C, B], C at least 2.
        tau_gold: temperature.

    Returns:
        [B], from 0, where one candidate is preferred alone, to 1, where none is preferred.
    """
    gold = F.softmax(utilities.detach() / tau_gold, dim=0)
    return -torch.xlogy(gold, gold).sum(dim=0) / math.log(len(gold))


def _mean(name: str) -> Reducer:
    def reduce(total: Tensor, num_examples: int) -> dict[str, float | list[float]]:
        return {name: total[0].item() / max(1.0, total[1].item())}

    return reduce


def usage_entropy(usage: Tensor) -> Tensor:
    """Entropy (nats) of how often each candidate was chosen [C]: 0 where one takes all, log C at equal shares."""
    shares = usage.double() / usage.sum().clamp(min=1)
    return torch.xlogy(shares, 1 / shares).sum()  # 0 log(1 / 0) is 0 there


def _masked(values: Tensor, mask: Tensor | None) -> Tensor:
    """The lowest finite number where there is no candidate; minus infinity gives NaN where there is none at all."""
    return values if mask is None else values.masked_fill(~mask, torch.finfo(values.dtype).min)


def _num_examples(scores: Tensor, mask: Tensor | None) -> Tensor | int:
    return scores.shape[1] if mask is None else mask.any(dim=0).sum().clamp(min=1)
