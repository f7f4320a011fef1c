"""SPT: frozen LM, soft prompts and retriever composed (paper, section 3)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from dataset.batch import Batch, Query
from dataset.encoding import EncodedExample
from dataset.similarity import BleuPairs, fixed_pairs
from models.conversation import ConversationModel
from models.feedback import feedback_counts, feedback_reducers
from models.lm.language_model import LanguageModel, load_language_model
from models.spt import losses as L
from models.spt.dominance import dominance_warning
from models.spt.retriever import Retriever
from models.spt.soft_prompts import SoftPrompts, start_prompts
from models.trainable import StepOutput
from utils.schema import Config


class SelectivePromptTuning(ConversationModel):
    """K soft prompts in front of one LM, and the retriever that learns to choose among them."""

    reducers = feedback_reducers("prompt")

    def __init__(self, lm: LanguageModel, tokenizer: PreTrainedTokenizerBase, config: Config) -> None:
        super().__init__(lm, tokenizer, config)
        self.num_prompts = config.model.K
        self.num_virtual_tokens = config.model.peft_config.num_virtual_tokens
        self.soft_prompts = SoftPrompts(self.num_prompts, self.num_virtual_tokens, lm.width)
        start_prompts(self.soft_prompts, lm, tokenizer, config.model)
        self.retriever = None if config.training.skip_retrieval else Retriever(lm.width, config.model)

    def scores(self, query: Query) -> Tensor:
        """Retriever scores [K, B]; without a retriever all prompts are alike."""
        if self.retriever is None:
            return torch.ones(self.num_prompts, query.ids.shape[0], device=query.ids.device)
        return self.retriever(self.soft_prompts.weight, self.lm.embed(query.ids), query.mask)

    @torch.no_grad()
    def score_prompts(self, query: Query) -> Tensor | None:
        """Scores [K, B] to choose the prompt by; None with `skip_retrieval`, where prompts are drawn."""
        return None if self.retriever is None else self.scores(query)

    def prompts_for(self, choice: Tensor | None, num_rows: int) -> Tensor:
        """The chosen soft prompts [B, V, D]."""
        return self.soft_prompts.weight[choice]

    def forward(self, batch: Batch, progress: float = 0.0) -> StepOutput:
        """The four losses of spec, section 4. All K prompts go through the LM as one batch."""
        settings = self.config.training
        embeddings = self.soft_prompts.prepend_to(self.lm.embed(batch.input_ids))  # [K * R, V + S, D]
        hidden = self.hidden_at_targets(batch, embeddings, self.num_virtual_tokens)  # [K, N, H]
        token_losses = self.token_losses(hidden, batch)  # [K, N]
        per_example = L.example_losses(token_losses.detach(), batch.target_examples, batch.num_examples)
        scores = self.scores(batch.query)  # [K, B]

        weights = None
        if settings.annealing_nll:
            limits = settings.annealing_scalar, settings.annealing_min, settings.annealing_max
            weights = L.annealing_weights(scores, progress, *limits)[:, batch.target_examples]  # [K, N]
        parts = {"llm": L.llm_loss(token_losses, weights)}
        if self.retriever is not None and not settings.only_nll:
            parts |= self._retriever_losses(batch, scores, per_example, hidden)
        counts = {"llm": token_losses.numel(), "contrastive": batch.pair_labels.numel()}
        return StepOutput(
            total=self.total_loss(parts),
            losses=parts,
            counts={name: counts.get(name, batch.num_examples) for name in parts},
            diagnostics={} if self.retriever is None else feedback_counts(scores, -per_example),
            per_example=scores.detach().T if self._with_contrastive else None,
        )

    def total_loss(self, losses: Mapping[str, Any]) -> Any:
        """The weighted sum of spec, section 4."""
        settings = self.config.training
        weights = {
            "llm": 1.0,
            "selection": settings.selective_loss_weight,
            "fusion": 1.0,
            "contrastive": settings.contrastive_weight,
        }
        if settings.disable_nll:
            del weights["llm"]  # not weighted by 0: nothing may learn from it
        return sum(weight * losses[name] for name, weight in weights.items() if name in losses)

    def file_losses(self, outputs: Tensor, examples: Sequence[EncodedExample]) -> dict[str, Tensor]:
        """L_contrastive on pairs that depend on the file alone, from the scores [n, K] of its examples."""
        if not self._with_contrastive:
            return {}
        pairs = fixed_pairs(len(examples))  # [2, P]
        label = BleuPairs(self.config.training.contrastive_threshold).label
        labels = [label(examples[first].persona, examples[second].persona) for first, second in pairs.T]
        return {
            "contrastive": L.contrastive_loss(
                outputs.T,
                torch.tensor(labels, device=outputs.device),
                torch.from_numpy(pairs).to(outputs.device),
            )
        }

    def warnings(self, row: Mapping[str, Any], what: str) -> list[str]:
        """Whether one prompt is chosen for nearly everything."""
        warning = dominance_warning(row, what)
        return [] if warning is None else [warning]

    @property
    def _with_contrastive(self) -> bool:
        settings = self.config.training
        wanted = settings.contrastive and settings.contrastive_metric and not settings.only_nll
        return bool(self.retriever is not None and wanted)

    def _retriever_losses(
        self, batch: Batch, scores: Tensor, per_example: Tensor, hidden: Tensor
    ) -> dict[str, Tensor]:
        settings = self.config.training
        parts = {}
        if settings.selective_loss:
            noise = None
            if settings.adding_noise and self.training:
                noise = settings.adding_noise * torch.randn_like(scores)
            parts["selection"] = L.selection_loss(
                scores, per_example, settings.tau_gold, settings.tau_sim, noise
            )
        if settings.ensemble:
            # the head is linear: the score-weighted sum of logits is the head of the weighted sum of hiddens
            example_of_token = batch.target_examples
            fused = torch.einsum("kn,knh->nh", scores[:, example_of_token].to(hidden.dtype), hidden)
            parts["fusion"] = L.fusion_loss(
                self.token_losses(fused[None], batch)[0], example_of_token, batch.num_examples
            )
        # a validation batch has no labels: which examples share it must not matter, see `file_losses`
        if self._with_contrastive and (self.training or batch.pair_labels.numel()):
            parts["contrastive"] = L.contrastive_loss(scores, batch.pair_labels)
        return parts


def build_selective(config: Config, tokenizer: PreTrainedTokenizerBase) -> SelectivePromptTuning:
    """SPT on the configured base LM."""
    lm = load_language_model(config.model, frozen=not config.training.all_tunable)
    return SelectivePromptTuning(lm, tokenizer, config)
