"""A retriever that learns each prompt's score from the context alone: a softmax classifier over the prompts."""

import torch.nn.functional as F
from torch import Tensor, nn

from models.spt.retriever import Retriever
from models.spt.settings import SelectiveModelSettings


class LinearRetriever(Retriever):
    """s[k, b] = w_k . e_ctx_b + b_k; the bias can say that one prompt is the best on average; a cosine has none.

    Args:
        width: D, the LM's embedding width.
        config: its settings.

    Raises:
        UserError: see `Retriever`.
    """

    def __init__(self, width: int, config: SelectiveModelSettings) -> None:
        super().__init__(width, config)
        self.scorer = Float32Linear(width, config.K)

    def forward(self, prompts: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """Scores [K, B] float32 as those of `Retriever`; the prompts themselves are not read."""
        return self.scorer(self.vectors(context, mask)).T


class Float32Linear(nn.Linear):
    """Its products are float32 whatever its weights are: the choice rests on small differences."""

    def forward(self, input: Tensor) -> Tensor:
        """[*, out] float32 of [*, in]."""
        return F.linear(input.float(), self.weight.float(), self.bias.float())
