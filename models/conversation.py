"""What the decoder asks of a model of any type, beside what the trainer asks: an LM, and what stands before its texts.

A type overrides `num_prompts`, `num_virtual_tokens`, `reads_query`, `has_retriever`, `score_prompts`, `prompts_for` and
`prefix_cache` as far as it has them. The decoder also uses `summed_losses`, `text_limit`, `lm`, `tokenizer` and
`config`.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, PreTrainedTokenizerBase

from dataset.batch import Batch, Query
from models.linear_cross_entropy import linear_cross_entropy
from models.lm.language_model import LanguageModel, weights_sha256
from models.losses import count_each
from models.settings import Config
from models.trainable import StepOutput, Trainable
from utils.errors import UserError


class ConversationModel(Trainable):
    """A causal LM with something before it.

    Args:
        lm: the base LM.
        tokenizer: its tokenizer.
        config: the configuration that the model was made from.
    """

    def __init__(self, lm: LanguageModel, tokenizer: PreTrainedTokenizerBase, config: Config) -> None:
        super().__init__()
        self.lm = lm
        self.tokenizer = tokenizer
        self.config = config

    @abstractmethod
    def forward(self, batch: Batch, progress: float = 0.0) -> StepOutput:
        """Losses of a batch; `progress` is the share of the training that is done, 0 to 1."""

    def total_loss(self, losses: Mapping[str, Any]) -> Any:
        """L_LLM alone, of a batch (tensor) or of a whole epoch (number)."""
        return losses["llm"]

    num_prompts: int = 0
    """K; 0 where there is no soft prompt"""
    num_virtual_tokens: int = 0
    """V, positions of the LM that the prompt takes"""

    reads_query: bool = False
    """whether what stands before a text depends on the text itself, beside the choice"""

    @property
    def has_retriever(self) -> bool:
        """Whether prompts are chosen by scores."""
        return False

    def score_prompts(self, query: Query) -> Tensor | None:
        """Scores [K, B] to choose the prompt by, or None where there is nothing to choose."""
        return None

    def prompts_for(self, choice: Tensor | None, num_rows: int, query: Query | None = None) -> Tensor | None:
        """Soft prompts [B, V, D] that stand before each row, or None.

        Args:
            choice: [B] index of each row's prompt, or None where there is nothing to choose.
            num_rows: B.
            query: of the B examples, for types that have `reads_query`.
        """
        return None

    def prefix_cache(self, num_rows: int) -> Cache | None:
        """Keys and values that stand before those of every layer, for `num_rows` rows, or None."""
        return None

    def hidden_with(self, batch: Batch, prompts: Tensor | None) -> Tensor:
        """Hidden states [1, N, H] that predict the target tokens, each row after its own prompt.

        Args:
            batch: rows and targets.
            prompts: [R, V, D], or None.
        """
        embeddings = self.lm.embed(batch.input_ids)  # [R, S, D]
        num_virtual = 0
        if prompts is not None:
            num_virtual = prompts.shape[1]
            embeddings = torch.cat([prompts.to(embeddings.dtype), embeddings], dim=1)
        return self.hidden_at_targets(batch, embeddings, num_virtual)

    def hidden_at_targets(self, batch: Batch, embeddings: Tensor, num_virtual: int) -> Tensor:
        """Hidden states [M, N, H] that predict the target tokens, for M copies of the rows.

        Args:
            batch: gives rows and positions.
            embeddings: [M * R, V + S, D], copy by copy.
            num_virtual: V, positions before each row.
        """
        hidden = self.lm.hidden(embeddings, self.prefix_cache(len(embeddings)))  # [M * R, V + S, H]
        copies = hidden.unflatten(0, (-1, batch.input_ids.shape[0]))  # [M, R, V + S, H]
        return copies[:, batch.target_rows, num_virtual + batch.target_positions]

    def token_losses(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Cross-entropies [M, N] (nats, float32) of the targets, from hidden states [M, N, H]."""
        copies = hidden.shape[0]
        flat = linear_cross_entropy(
            hidden.flatten(0, 1), self.lm.head_weight, batch.target_ids.repeat(copies)
        )
        return flat.unflatten(0, (copies, -1))

    def summed_losses(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Teacher-forced cross-entropy of each example.

        Args:
            hidden: [N, H] hidden states that predict the batch's target tokens.
            batch: gives the target tokens and whose they are.

        Returns:
            Sums over the target tokens [B] in nats, and their numbers [B].
        """
        losses = self.token_losses(hidden[None], batch)[0]  # [N]
        sums = losses.new_zeros(batch.num_examples).index_add(0, batch.target_examples, losses)
        return sums, count_each(batch.target_examples, batch.num_examples)

    def text_limit(self, new_tokens: int) -> int | None:
        """Tokens of text that the LM's positions leave beside the prompt and the new tokens; None: no limit.

        Raises:
            UserError: nothing is left.
        """
        if self.lm.max_positions is None:
            return None
        left = self.lm.max_positions - self.num_virtual_tokens - new_tokens
        if left < 1:
            raise UserError(
                f"the LM has {self.lm.max_positions} positions; {self.num_virtual_tokens} virtual tokens and "
                f"{new_tokens} new tokens leave no room for a text"
            )
        return left

    def describe(self) -> list[str]:
        """Model type, base LM and sizes."""
        model = self.config.model
        sizes = f"K = {self.num_prompts}, V = {self.num_virtual_tokens}, " if self.num_prompts else ""
        return [
            f"{model.model_type} on {model.base_lm or 'a new LM'} ({sizes}D = {self.lm.width}, "
            f"fidelity {model.fidelity})"
        ]

    def metadata(self) -> dict[str, Any]:
        """Base LM with the hash of its weights, and sizes."""
        model = self.config.model
        return {
            "model_type": model.model_type,
            "base_model": model.base_lm,
            "base_model_sha256": weights_sha256(model.base_lm) if model.base_lm else None,
            "K": self.num_prompts,
            "V": self.num_virtual_tokens,
            "D": self.lm.width,
            "fidelity": model.fidelity,
        }
