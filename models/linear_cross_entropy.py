"""Cross-entropy of a linear head without keeping its logits.

A full-vocabulary logit matrix is the largest tensor of a step. Here it lives for one chunk at a time: the
gradient with respect to the hidden states is taken while the chunk's softmax is at hand, so that the backward
pass needs neither the logits nor a second product.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.utils.checkpoint import checkpoint

from models.onednn import linear

CHUNK_BYTES = 64 * 2**20  # of float32 logits: large enough for full-speed products


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of softmax(hidden @ weight.T) against targets, one number per row.

    Args:
        hidden: [M, H] hidden states.
        weight: [Vocab, H] head of the LM, without bias; may be trainable.
        targets: [M] token ids.

    Returns:
        [M] float32, nats; differentiable in `hidden`, and in `weight` where it asks for it.
    """
    size = max(1, CHUNK_BYTES // (4 * weight.shape[0]))
    if not (weight.requires_grad and torch.is_grad_enabled()):
        return _FrozenHead.apply(hidden, weight, targets, size)
    chunks = zip(hidden.split(size), targets.split(size), strict=True)
    losses = [checkpoint(_chunk_losses, part, weight, ids, use_reentrant=False) for part, ids in chunks]
    return torch.cat(losses) if losses else hidden.new_zeros(0, dtype=torch.float32)


def _chunk_losses(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, weight).float(), targets, reduction="none")


class _FrozenHead(torch.autograd.Function):
    """The case of a head that is not trained, or not now."""

    @staticmethod
    def forward(ctx: BackwardCFunction, hidden: Tensor, weight: Tensor, targets: Tensor, size: int) -> Tensor:
        """See linear_cross_entropy; `size` rows make a chunk."""
        losses = hidden.new_empty(hidden.shape[0], dtype=torch.float32)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for start in range(0, hidden.shape[0], size):
            part = slice(start, start + size)
            logits = linear(hidden[part], weight).float()  # [size, Vocab]; no gradient is taken of it
            target = targets[part, None]
            of_target = logits.gather(1, target)
            # in place: each pass over the logits, and each copy of them, takes as long as a part of the products
            largest = logits.amax(dim=1, keepdim=True)
            shares = logits.sub_(largest).exp_()
            norm = shares.sum(dim=1, keepdim=True)
            losses[part] = (norm.log() + (largest - of_target)).squeeze(1)
            if gradient is not None:
                # d loss / d logits = softmax - onehot
                error = shares.div_(norm)
                error.scatter_add_(1, target, torch.full_like(target, -1, dtype=error.dtype))
                gradient[part] = error.to(weight.dtype) @ weight
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: BackwardCFunction, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        """Scale each row's stored gradient by what flows in from above."""
        (gradient,) = ctx.saved_tensors
        # in float32, as float16 has no room for the scale of the loss
        return (gradient.float() * upstream[:, None]).to(gradient.dtype), None, None, None
