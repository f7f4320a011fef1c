"""SPT: frozen LM, soft prompts and retriever composed (paper, section 3). Its losses are in models/spt/terms.py."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedTokenizerBase

from dataset.batch import Batch, Query
from dataset.encoding import EncodedExample
from dataset.similarity import PairLabels
from models import losses as L
from models.conversation import ConversationModel
from models.lm.language_model import LanguageModel, load_language_model
from models.model_type import ModelType, StoredSize
from models.release.retriever import ReleasedRetriever
from models.spt.choice_warning import choice_warning
from models.spt.diagnostics import QUIET, REDUCERS, diagnostics_of
from models.spt.dominance import dominance_warning
from models.spt.equal_prompts import equal_prompts_warning
from models.spt.linear_retriever import LinearRetriever
from models.spt.query_whitening import whitening_of_training
from models.spt.retriever import Retriever
from models.spt.settings import SelectiveConfig, SelectiveModelSettings
from models.spt.soft_prompts import (
    SoftPrompts,
    check_warm_start_lm,
    prepend_each,
    start_prompts,
    stored_tokens,
    warm_start_prompts,
)
from models.spt.terms import LOSSES, LossInputs, active_losses
from models.trainable import Figure, StepOutput
from utils.config.schema import Section
from utils.errors import UserError
from utils.partitioning import is_partitioned, whole, whole_shape, whole_when_used

if TYPE_CHECKING:  # takes seconds
    from models.task import BatchLoader
    from utils.distributed import DistributedContext

CHOSEN_LOSS = Figure("chosen_loss", "lower", "validation loss of the chosen prompts")


class SelectivePromptTuning(ConversationModel):
    """K soft prompts before one LM, and the retriever that learns to choose among them."""

    config: SelectiveConfig
    reducers = REDUCERS
    quiet_figures = QUIET

    def __init__(
        self, lm: LanguageModel, tokenizer: PreTrainedTokenizerBase, config: SelectiveConfig
    ) -> None:
        super().__init__(lm, tokenizer, config)
        self.num_prompts = config.model.K
        self.prompts_per_pass = config.model.prompts_per_pass or self.num_prompts
        self.num_virtual_tokens = config.model.peft_config.num_virtual_tokens
        self.query_kind = config.model.retriever.query
        hidden_width = whole_shape(lm.head_weight)[1]
        if self.query_kind == "hidden" and hidden_width != lm.width:
            raise UserError(
                f"model.retriever.query: hidden needs hidden states as wide as the embeddings; this LM's are "
                f"{hidden_width} and {lm.width} wide"
            )
        self.soft_prompts = SoftPrompts(self.num_prompts, self.num_virtual_tokens, lm.width)
        start_prompts(self.soft_prompts, lm, tokenizer, config.model)
        self.retriever = None if config.training.skip_retrieval else _make_retriever(lm.width, config.model)
        self.settings = config.training
        self.losses = active_losses(config.training)
        if config.training.assignment == "posterior" and self.num_prompts > 1:
            # its L_LLM weighs the prompts by the response itself, which no choice knows
            self.best = CHOSEN_LOSS
        if config.training.warm_start_prompt is not None:
            self.warm_start_key = "training.warm_start_prompt"

    @property
    def has_retriever(self) -> bool:
        """Whether prompts are chosen by scores, and not drawn."""
        return self.retriever is not None and self.num_prompts > 1

    def scores(self, query: Query) -> Tensor:
        """Retriever scores [K, B]; without a retriever all prompts have the same."""
        return self._scores(query, self._query_states(query))

    def _scores(self, query: Query, states: tuple[Tensor, Tensor] | None) -> Tensor:
        if self.retriever is None or states is None:
            return torch.ones(self.num_prompts, query.ids.shape[0], device=query.ids.device)
        return self.retriever(self.soft_prompts.weight, *states)

    def _query_states(self, query: Query) -> tuple[Tensor, Tensor] | None:
        """What the retriever reads, [B, Q, D], and which positions count, [B, Q]; None without a retriever."""
        if self.retriever is None:
            return None
        context = self.lm.embed(query.ids)  # [B, Q, D]
        if self.query_kind == "context_mean":
            return context, query.mask
        if self.query_kind == "hidden":
            with torch.no_grad():
                context = self.lm.hidden(context)  # [B, Q, H]; H = D
        return context, query.last_turn

    @torch.no_grad()
    def score_prompts(self, query: Query) -> Tensor | None:
        """Scores [K, B] to choose the prompt by; None with `skip_retrieval`, where prompts are drawn."""
        return None if self.retriever is None else self.scores(query)

    def prompts_for(self, choice: Tensor | None, num_rows: int, query: Query | None = None) -> Tensor:
        """The chosen soft prompts [B, V, D]; the only one where there is nothing to choose."""
        if choice is None:
            return self.soft_prompts.weight.expand(num_rows, -1, -1)
        return self.soft_prompts.weight[choice]

    def forward(self, batch: Batch, progress: float = 0.0) -> StepOutput:
        """The losses of docs/method.md, section 4."""
        hidden = self.hidden_with_each(batch)  # [K, N, H]
        token_losses = self.token_losses(hidden, batch)  # [K, N]
        query = self._query_states(batch.query)
        inputs = LossInputs(
            batch=batch,
            token_losses=token_losses,
            example_losses=L.example_losses(token_losses.detach(), batch.target_examples, batch.num_examples),
            scores=self._scores(batch.query, query),
            hidden=hidden,
            losses_of=lambda states: self.token_losses(states, batch),
            progress=progress,
            training=self.training,
        )
        computed = {name: term.compute(inputs, self.settings) for name, term in self.losses.items()}
        parts = {name: loss for name, loss in computed.items() if loss is not None}
        return StepOutput(
            total=self.total_loss(parts),
            losses=parts,
            counts={name: self.losses[name].count(inputs) for name in parts},
            diagnostics=diagnostics_of(
                inputs, self.retriever, query, self.settings, "selection" in self.losses
            ),
            per_example=inputs.scores.detach().T
            if any(term.of_file for term in self.losses.values())
            else None,
        )

    def hidden_with_each(self, batch: Batch) -> Tensor:
        """Hidden states [K, N, H] that predict the target tokens, after each of the K prompts.

        The prompts go through the LM in groups of `prompts_per_pass`. The losses need the hidden states of all prompts
        at once, yet the LM's activations of one group only: those of the last group are kept, as its backward pass
        comes first, and every other group is read again when its own comes.
        """
        texts = self.lm.embed(batch.input_ids)  # [R, S, D]

        def passed(prompts: Tensor) -> Tensor:
            return self.hidden_at_targets(batch, prepend_each(prompts, texts), self.num_virtual_tokens)

        *earlier, last = self.soft_prompts.weight.split(self.prompts_per_pass)
        if not earlier:
            return passed(last)
        hidden = [checkpoint(passed, prompts, use_reentrant=False) for prompts in earlier]
        return torch.cat([*hidden, passed(last)])

    def warm_start(self) -> None:
        """Start the prompts from a trained one, with `warm_start_prompt`."""
        if self.settings.warm_start_prompt is not None:
            run = Path(self.settings.warm_start_prompt)
            warm_start_prompts(self.soft_prompts, run, self.settings.seed)
            check_warm_start_lm(run, self.config.model.base_lm)

    @property
    def statistics(self) -> dict[str, Tensor]:
        """Mean and matrix of `query_whiten`."""
        whitening = None if self.retriever is None else self.retriever.whitening
        buffers = {} if whitening is None else dict(whitening.named_buffers())
        return {f"retriever.whitening.{name}": value for name, value in buffers.items()}

    def measure(self, batches: "BatchLoader", distributed: "DistributedContext") -> None:
        """Whiten the queries by those of the training, with `query_whiten`."""
        retriever = self.retriever
        if retriever is None or retriever.whitening is None:
            return
        if not is_partitioned(self.lm.embedding_weight):
            self.lm.to(distributed.device)  # where the engine would put it

        def queries_of(batch: Batch) -> Tensor:
            states = self._query_states(batch.query)
            assert states is not None  # there is a retriever
            return retriever.queries(*states)

        with whole_when_used(self.lm):
            found = whitening_of_training(batches, queries_of, self.lm.width, distributed)
        retriever.whitening.start(found)

    def total_loss(self, losses: Mapping[str, Any]) -> Any:
        """The weighted sum of docs/method.md, section 4."""
        weights = {name: term.weight(self.settings) for name, term in self.losses.items()}
        # a loss without a weight is not weighted by 0: nothing may learn from it
        return sum(
            weight * losses[name] for name, weight in weights.items() if weight is not None and name in losses
        )

    def file_losses(self, outputs: Tensor, examples: Sequence[EncodedExample]) -> dict[str, Tensor]:
        """Losses of a whole validation file, from the scores [n, K] of its examples."""
        terms = {name: term.of_file for name, term in self.losses.items() if term.of_file is not None}
        return {name: of_file(outputs.T, examples, self.settings) for name, of_file in terms.items()}

    def warnings(self, row: Mapping[str, Any], what: str) -> list[str]:
        """Whether one prompt is chosen for nearly everything, or the choice is worse than none."""
        found = (dominance_warning(row, what, self.config), choice_warning(row, what, self.config))
        return [warning for warning in found if warning is not None]

    def learning_parts(self) -> dict[str, Sequence[nn.Parameter]]:
        """The soft prompts, and the retriever where it has a choice."""
        parts: dict[str, Sequence[nn.Parameter]] = {"the soft prompts": list(self.soft_prompts.parameters())}
        if self.retriever is not None and self.has_retriever:
            parts["the retriever"] = list(self.retriever.parameters())
        return parts

    def faults(self) -> dict[str, str]:
        """Whether the soft prompts are all the same."""
        with whole([self.soft_prompts.weight]):
            warning = equal_prompts_warning(self.soft_prompts.weight)
        return {} if warning is None else {"equal prompts": warning}


def _make_retriever(width: int, config: SelectiveModelSettings) -> Retriever:
    if config.retriever.scorer == "linear":
        return LinearRetriever(width, config)
    return (ReleasedRetriever if config.released else Retriever)(width, config)


def build_selective(config: SelectiveConfig, tokenizer: PreTrainedTokenizerBase) -> SelectivePromptTuning:
    """SPT on the configured base LM."""
    lm = load_language_model(config.model, frozen=not config.training.all_tunable)
    return SelectivePromptTuning(lm, tokenizer, config)


def _loss_sections() -> list[type[Section]]:
    return [term.settings for term in LOSSES.values()]


def _pair_labels(config: SelectiveConfig) -> PairLabels | None:
    makers = [term.pair_labels for term in active_losses(config.training).values() if term.pair_labels]
    return makers[0](config.training) if makers else None


def _stored_sizes(config: SelectiveConfig, state: Mapping[str, Tensor]) -> list[StoredSize]:
    encoder = config.model.retriever
    layers = {name.split(".")[3] for name in state if name.startswith("retriever.encoder.layers.")}
    return [
        stored_tokens(config.model.peft_config, state.get("soft_prompts.weight"), axis=1),
        StoredSize("retriever.num_layers", encoder.num_layers if encoder.retriever_type else 0, len(layers)),
    ]


MODEL_TYPE = ModelType(
    config=SelectiveConfig,
    build=build_selective,
    training_sections=_loss_sections,
    pair_labels=_pair_labels,
    stored_sizes=_stored_sizes,
)
