"""What learned routers make of their logits, as pure functions: probabilities for one prompt, gates for all of them."""

import torch.nn.functional as F
from torch import Tensor


def perturbed(logits: Tensor, noise: Tensor) -> Tensor:
    """SMoP's router perturbation: each logit times 1 plus its noise (Choi et al., 2023; docs/method.md, "Peers").

    Args:
        logits: [B, K] of the router.
        noise: [B, K], Gaussian of mean 0.
    """
    return logits * (1 + noise)


def scaled_prompts(prompts: Tensor, probabilities: Tensor, choice: Tensor) -> Tensor:
    """SMoP's input: each example's chosen prompt times the probability that the router gives it.

    The factor is what the router learns through: the choice itself has no gradient.

    Args:
        prompts: [K, V, D].
        probabilities: [K, B].
        choice: [B].

    Returns:
        [B, V, D].
    """
    factors = probabilities.gather(0, choice[None])[0]  # [B]
    return factors[:, None, None] * prompts[choice]


def concatenation_gates(logits: Tensor) -> Tensor:
    """K times softmax over the prompts: the mean gate is 1, and a router that says nothing leaves all prompts alone.

    Args:
        logits: [B, K] of the router.

    Returns:
        [K, B].
    """
    return logits.shape[1] * F.softmax(logits, dim=1).T


def gated_prompts(prompts: Tensor, gates: Tensor) -> Tensor:
    """All prompts in a row, each times its gate.

    Args:
        prompts: [K, V, D].
        gates: [K, B].

    Returns:
        [B, K * V, D].
    """
    return (gates.T[:, :, None, None] * prompts).flatten(1, 2)
