"""The losses of ROPG, on the feedback losses that all scorers of candidates share (models/feedback.py).

C documents, B questions; scores and utilities are [C, B], `mask` [C, B] is False where a question has fewer than C.
"""

import torch
from torch import Tensor

from models.feedback import feedback_kl, policy_gradient_loss


def kd_loss(scores: Tensor, utilities: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """ROPG-KD: KL(softmax(utilities / t) || softmax(scores / t)) over a question's documents, mean over questions."""
    return feedback_kl(scores, utilities, temperature, temperature, mask)


def rl_loss(scores: Tensor, utilities: Tensor, mask: Tensor, actions: Tensor | None = None) -> Tensor:
    """ROPG-RL: minus the reward of the policy softmax(scores), mean over questions.

    The reward of a document is its utility minus that of the first one, which the encoder to start from ranks highest.

    Args:
        scores: [C, B].
        utilities: [C, B].
        mask: [C, B].
        actions: [B] documents that were drawn; None: the expectation over all documents.
    """
    return policy_gradient_loss(scores, utilities, mask=mask, baseline=utilities[0], actions=actions)


def draw_actions(scores: Tensor, mask: Tensor, draws: Tensor) -> Tensor:
    """A document [B] of each question by the policy softmax(scores).

    Args:
        scores: [C, B].
        mask: [C, B]; the documents of a question are its first rows, and there is at least one.
        draws: [B] numbers from [0, 1), which decide.
    """
    scores = scores.detach().double().masked_fill(~mask, -torch.inf)
    below = scores.softmax(dim=0).cumsum(dim=0)  # [C, B]
    # the sum of all may stay below 1 by rounding
    return torch.minimum((below <= draws).sum(dim=0), mask.sum(dim=0) - 1)
