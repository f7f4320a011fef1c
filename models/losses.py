"""The four losses of SPT as pure functions of tensors (paper, section 3; docs/method.md, section 4).

K soft prompts, B examples, N target tokens of all examples together, P pairs of examples.
No tokenizer, engine, configuration or device is known here.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.feedback import feedback_kl


def llm_loss(token_losses: Tensor, weights: Tensor | None = None) -> Tensor:
    """L_LLM: mean cross-entropy over all prompts and target tokens.

    Args:
        token_losses: [K, N], nats.
        weights: [K, N] weights of the token losses (annealing), or None.
    """
    return (token_losses if weights is None else token_losses * weights).mean()


def turn_assignment(turns: Tensor, num_prompts: int) -> Tensor:
    """`assignment: turn`: prompt k has the examples of turn k alone, the last prompt those of all later turns.

    Args:
        turns: [B] int64, counted from 0.
        num_prompts: K.

    Returns:
        [K, B] float32, 1 for the prompt that an example trains, else 0.
    """
    return F.one_hot(turns.clamp(max=num_prompts - 1), num_prompts).T.float()


def posterior_assignment(losses: Tensor, tau: float = 1.0) -> Tensor:
    """`assignment: posterior`: softmax over k of -losses / tau, the responsibilities of a mixture; detached.

    Args:
        losses: [K, B] summed target cross-entropies.
        tau: temperature; at 1 they are the probabilities of the prompts given the response, by equal priors.

    Returns:
        [K, B].
    """
    return F.softmax(-losses.detach() / tau, dim=0)


def example_losses(token_losses: Tensor, example_of_token: Tensor, num_examples: int) -> Tensor:
    """Mean target cross-entropy of each example under each prompt.

    Args:
        token_losses: [K, N], nats.
        example_of_token: [N], the example of each token.
        num_examples: B.

    Returns:
        [K, B]. An example without target tokens has loss 0.
    """
    sums = summed_losses(token_losses, example_of_token, num_examples)
    return sums / count_each(example_of_token, num_examples).clamp(min=1)


def summed_losses(token_losses: Tensor, example_of_token: Tensor, num_examples: int) -> Tensor:
    """Summed target cross-entropy of each example under each prompt: minus the log-probability of the response.

    Args:
        token_losses: [K, N], nats.
        example_of_token: [N], the example of each token.
        num_examples: B.

    Returns:
        [K, B]. An example without target tokens has loss 0.
    """
    zeros = token_losses.new_zeros(token_losses.shape[0], num_examples)
    return zeros.index_add(1, example_of_token, token_losses)


def count_each(example_of_token: Tensor, size: int) -> Tensor:
    """How often each of the numbers 0 to size - 1 stands in `example_of_token` [N]: [size].

    Not `torch.bincount`, which makes a GPU wait to learn its largest entry.
    """
    return example_of_token.new_zeros(size).index_add(0, example_of_token, torch.ones_like(example_of_token))


def selection_loss(
    scores: Tensor, losses: Tensor, tau_gold: float = 1.0, tau_sim: float = 1.0, noise: Tensor | None = None
) -> Tensor:
    """L_selection: the prompts are the candidates, and the utility of one is minus the LM's loss with it.

    Args:
        scores: [K, B] scores of the retriever; the gradient flows here only.
        losses: [K, B] mean or summed target cross-entropies; detached.
        tau_gold: temperature of the LM's preference.
        tau_sim: temperature of the scores.
        noise: [K, B] added to the LM's preference (`adding_noise`).

    Returns:
        See `feedback_kl`.
    """
    return feedback_kl(scores, -losses, tau_gold, tau_sim, noise=noise)


def fusion_loss(token_losses: Tensor, example_of_token: Tensor, num_examples: int) -> Tensor:
    """L_fusion: mean within each example, then over examples, of the fused logits' cross-entropy.

    Args:
        token_losses: [N] cross-entropies of sum over k of scores[k, b] * logits[k, n], nats.
        example_of_token: [N], the example of each token.
        num_examples: B.
    """
    return example_losses(token_losses[None], example_of_token, num_examples).mean()


def normalised_fusion_loss(
    scores: Tensor,
    token_losses: Tensor,
    example_of_token: Tensor,
    num_examples: int,
    tau_sim: float = 1.0,
) -> Tensor:
    """L_fusion with `fusion: normalised`: each example's losses, in expectation over prompts drawn by the scores.

    Unlike the fused logits, it asks every prompt to predict well alone, as it does in decoding.

    Args:
        scores: [K, B]; has a gradient, as the losses have.
        token_losses: [K, N], nats.
        example_of_token: [N], the example of each token.
        num_examples: B.
        tau_sim: temperature of the scores.

    Returns:
        The mean over examples of sum over k of softmax over k of (scores / tau_sim) * mean loss.
    """
    losses = example_losses(token_losses, example_of_token, num_examples)  # [K, B]
    return (F.softmax(scores / tau_sim, dim=0) * losses).sum(dim=0).mean()


def contrastive_loss(scores: Tensor, pair_labels: Tensor, pairs: Tensor | None = None) -> Tensor:
    """L_contrastive: cosine embedding loss (margin 0) of the score vectors of pairs of examples.

    Args:
        scores: [K, B].
        pair_labels: [P] +1 where the pair is to have similar scores, else -1.
        pairs: [2, P] the examples of each pair; None: all pairs (0, 1), (0, 2), .. (1, 2), ..

    Returns:
        The mean over pairs; 0 when there is no pair.
    """
    if pairs is None:
        pairs = torch.triu_indices(scores.shape[1], scores.shape[1], offset=1, device=scores.device)
    first, second = pairs
    if first.numel() == 0:
        return scores.sum() * 0
    if pair_labels.shape != first.shape:  # one label would be broadcast over all pairs, none would give nan
        raise ValueError(
            f"{scores.shape[1]} examples have {first.numel()} pairs, but {pair_labels.numel()} labels came"
        )
    columns = scores.T  # [B, K]
    return F.cosine_embedding_loss(columns[first], columns[second], pair_labels.to(scores.dtype))


def annealing_weights(
    scores: Tensor, progress: float, scalar: float, minimum: float, maximum: float
) -> Tensor:
    """Weights of `annealing_nll`: clamp(scalar * (1 - progress) * softmax over k of scores), detached.

    Args:
        scores: [K, B].
        progress: share of the training that is done, 0 to 1.
        scalar: scale.
        minimum: lower end of the clamp.
        maximum: upper end of the clamp.

    Returns:
        [K, B].
    """
    weights = scalar * (1 - progress) * F.softmax(scores.detach(), dim=0)
    return weights.clamp(minimum, maximum)
