"""K soft prompts of V virtual tokens each."""

import torch
from torch import Tensor, nn


class SoftPrompts(nn.Module):
    """The trainable tables; they stand in front of the token embeddings (paper, section 3.1).

    Args:
        num_prompts: K.
        num_virtual_tokens: V.
        width: D, the LM's embedding width.
    """

    def __init__(self, num_prompts: int, num_virtual_tokens: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_prompts, num_virtual_tokens, width))  # [K, V, D]

    @torch.no_grad()
    def start_from(self, embeddings: Tensor, token_ids: Tensor) -> None:
        """Start from embeddings of real tokens instead of N(0, 1).

        Args:
            embeddings: [Vocab, D] the LM's table.
            token_ids: [K, V].
        """
        self.weight.copy_(embeddings[token_ids])

    def in_front_of(self, token_embeddings: Tensor) -> Tensor:
        """Every prompt in front of every row.

        Args:
            token_embeddings: [R, S, D].

        Returns:
            [K * R, V + S, D], prompt by prompt.
        """
        num_prompts, num_virtual, width = self.weight.shape
        rows, length, _ = token_embeddings.shape
        prompts = self.weight[:, None].expand(num_prompts, rows, num_virtual, width)
        texts = token_embeddings[None].expand(num_prompts, rows, length, width)
        return torch.cat([prompts.to(texts.dtype), texts], dim=2).flatten(0, 1)
