"""The dense retriever: scores the K soft prompts against each example's context (paper, section 3.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.spt.query_whitening import QueryWhitening
from models.spt.settings import RetrieverSettings
from utils.errors import UserError

_ACTIVATIONS = {
    "softplus": lambda cosine: F.softplus(cosine, beta=10, threshold=1),
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
}


def masked_mean(embeddings: Tensor, mask: Tensor) -> Tensor:
    """Mean of embeddings [B, Q, D] over the positions of a mask [B, Q]: [B, D] float32; 0 where there is none."""
    weights = mask.to(torch.float32)[..., None]
    return (embeddings.float() * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


class Retriever(nn.Module):
    """s[k, b] = act(cos(e_k, e_ctx_b)), from means of embeddings through one shared Linear(D, D).

    Args:
        width: D, the LM's embedding width.
        config: its settings.

    Raises:
        UserError: the transformer encoder's heads do not divide D.
    """

    batch_first = True  # of the encoder

    def __init__(self, width: int, config: RetrieverSettings) -> None:
        super().__init__()
        self.whitening = QueryWhitening(width) if config.retriever.query_whiten else None
        self.linear = nn.Linear(width, width) if config.normalizer == "linear" else None
        self.linear_on = set(config.normalizer_on)
        self.activation = _ACTIVATIONS[config.score_activation]
        self.encoder, self.encoder_on = None, set(config.retriever.retriever_on)
        if config.retriever.retriever_type == "transformer_encoder":
            if width % config.retriever.n_head:
                raise UserError(
                    f"model.retriever.n_head = {config.retriever.n_head} does not divide the LM's embedding "
                    f"width {width}"
                )
            layer = nn.TransformerEncoderLayer(
                width, config.retriever.n_head, batch_first=self.batch_first, dropout=0.0
            )
            self.encoder = nn.TransformerEncoder(
                layer, config.retriever.num_layers, enable_nested_tensor=False
            )

    def encode(self, encoder: nn.Module, embeddings: Tensor, mask: Tensor) -> Tensor:
        """What the encoder makes of embeddings [*, Q, D], the positions outside `mask` unseen."""
        return encoder(embeddings, src_key_padding_mask=~mask)

    def forward(self, prompts: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """Scores of all prompts for all examples.

        Args:
            prompts: [K, V, D].
            context: [B, Q, D] token embeddings of the query.
            mask: [B, Q] bool, True where the token counts.

        Returns:
            [K, B] float32.
        """
        everything = torch.ones(prompts.shape[:2], dtype=torch.bool, device=prompts.device)
        of_prompts = self._vectors(prompts, everything, "extra", "prompt")  # [K, D]
        of_context = self.vectors(context, mask)  # [B, D]
        cosine = F.cosine_similarity(of_prompts[:, None].float(), of_context[None].float(), dim=-1)
        return self.activation(cosine)

    def queries(self, context: Tensor, mask: Tensor) -> Tensor:
        """Means [B, D] of what is read of the examples; arguments as those of `forward`."""
        return self._means(context, mask, "lm")

    def vectors(self, context: Tensor, mask: Tensor) -> Tensor:
        """What becomes of `queries` before it is scored: [B, D]."""
        return self._vectors(context, mask, "lm", "lm")

    def _vectors(self, embeddings: Tensor, mask: Tensor, encoder_name: str, linear_name: str) -> Tensor:
        """Mean over the real positions, whitened and through encoder and linear layer where they apply: [*, D]."""
        mean = self._means(embeddings, mask, encoder_name)
        if self.whitening is not None and linear_name == "lm":
            mean = self.whitening(mean)
        if self.linear is None or linear_name not in self.linear_on:
            return mean
        return self.linear(mean.to(self._dtype(embeddings)))

    def _means(self, embeddings: Tensor, mask: Tensor, encoder_name: str) -> Tensor:
        """Mean over the real positions, through the encoder where it applies: [*, D] float32."""
        embeddings = embeddings.to(self._dtype(embeddings))
        if self.encoder is not None and encoder_name in self.encoder_on:
            embeddings = self.encode(self.encoder, embeddings, mask)
        return masked_mean(embeddings, mask)

    def _dtype(self, embeddings: Tensor) -> torch.dtype:
        return next((parameter.dtype for parameter in self.parameters()), embeddings.dtype)
