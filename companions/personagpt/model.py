"""PersonaGPT as a module: a causal LM of which everything is trained, kept as a Hugging Face folder."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from companions.personagpt.settings import PersonaConfig
from companions.personagpt.tokens import ADDED
from dataset.batch import Batch
from models import losses as L
from models.lm.language_model import LanguageModel, load_language_model
from models.lm.whole import WholeLM
from models.trainable import StepOutput
from utils.errors import UserError


def batch_loss(
    token_losses: Tensor, example_of_token: Tensor, num_examples: int, divisor: int | None = None
) -> Tensor:
    """Sum over examples of the mean cross-entropy of their target tokens, divided.

    Args:
        token_losses: [N], nats.
        example_of_token: [N], the example of each token.
        num_examples: B.
        divisor: B where it is not given, so that the loss is the mean over examples.
    """
    each = L.example_losses(token_losses[None], example_of_token, num_examples)  # [1, B]
    return each.sum() / (divisor or num_examples)


def perplexity_of(name: str) -> Any:
    """The reducer of (sum of token losses, number of tokens): the token perplexity, micro-averaged."""

    def reduced(total: Tensor, num_examples: int) -> dict[str, float | list[float]]:
        losses, tokens = total
        return {name: torch.exp(losses / tokens).item()} if tokens else {}

    return reduced


class PersonaGPT(WholeLM):
    """The LM with rows for the special tokens; trained as in the stage `pretrain`.

    Args:
        lm: the LM.
        tokenizer: from `tokens.make_tokenizer`.
        config: the configuration.
        rows_added: rows that the LM's token table did not have before.
    """

    config: PersonaConfig
    reducers = {"tokens": perplexity_of("token_perplexity")}

    def __init__(
        self,
        lm: LanguageModel,
        tokenizer: PreTrainedTokenizerBase,
        config: PersonaConfig,
        rows_added: int = 0,
    ) -> None:
        super().__init__(lm, tokenizer, config)
        self.rows_added = rows_added

    def forward(self, batch: Batch, progress: float = 0.0) -> StepOutput:
        """The loss of dialogues: mean over examples of the mean over an example's target tokens."""
        loss, count, tokens = self.loss_of(batch)
        return StepOutput(loss, {"pretrain_loss": loss}, {"pretrain_loss": count}, {"tokens": tokens})

    def total_loss(self, losses: Mapping[str, Any]) -> Any:
        """The sum of whatever losses there are."""
        return sum(losses.values())

    def loss_of(self, batch: Batch) -> tuple[Tensor, int, Tensor]:
        """Loss of a batch, what it is a mean over, and [sum of the token losses, number of tokens]."""
        losses = self.token_losses(self.hidden_with(batch, None), batch)[0]  # [N]
        tokens = torch.stack([losses.detach().double().sum(), losses.new_tensor(losses.numel()).double()])
        divisor = count = batch.num_examples
        if self.training and self.config.model.released:
            # a batch is an update, which may hold examples that the epoch before left over: a sum over them all
            divisor, count = self.config.training.batch_size, 1
        return batch_loss(losses, batch.target_examples, batch.num_examples, divisor), count, tokens

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """One group: every parameter at the learning rate."""
        return [self.group(list(self.parameters()), learning_rate, self.config.training.weight_decay)]

    def group(self, parameters: Sequence[Tensor], rate: float, decay: float) -> dict[str, Any]:
        """A group of the optimiser, with decoupled weight decay (AdamW)."""
        return {"params": parameters, "lr": rate, "weight_decay": decay, "decoupled_weight_decay": True}

    def describe(self) -> list[str]:
        """Base LM and stage."""
        training = self.config.training
        return [*super().describe(), f"stage {training.stage}, weight decay {training.weight_decay:g}"]


def load_with_rows(config: PersonaConfig, tokenizer: PreTrainedTokenizerBase) -> tuple[LanguageModel, int]:
    """The configured base LM with a row for each token, and how many rows were added, drawn from N(0, 0.02).

    Raises:
        UserError: the LM cannot be loaded, or the ids of the special tokens are not its own.
    """
    # whole on every rank: its tables are resized and taken apart by rows
    lm = load_language_model(config.model, frozen=False, partition=False)
    vocabulary, rows = tokenizer.get_vocab(), lm.embedding_weight.shape[0]
    last = max(ADDED, key=vocabulary.__getitem__)
    wanted = max(rows, len(tokenizer))
    if vocabulary[last] >= wanted:
        raise UserError(
            f"{config.model.model_name}: the tokenizer gives {last} the id {vocabulary[last]}, but has "
            f"{len(tokenizer)} tokens, and the LM {rows} rows: they do not belong together"
        )
    if wanted > rows:
        lm.model.resize_token_embeddings(wanted, mean_resizing=False)
    return lm, wanted - rows


def build_personagpt(config: PersonaConfig, tokenizer: PreTrainedTokenizerBase) -> PersonaGPT:
    """The configured base LM with rows for the special tokens.

    Raises:
        UserError: see `load_with_rows`.
    """
    lm, added = load_with_rows(config, tokenizer)
    return PersonaGPT(lm, tokenizer, config, added)
