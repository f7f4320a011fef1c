"""K soft prompts on a frozen LM, trained by L_LLM, that something else than SPT's retriever routes texts to.

Random and turn routing learn no router; SMoP (Choi et al., 2023) learns one that takes one prompt; gated concatenation
puts all prompts before every text (docs/method.md, "Peers").
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from dataset.batch import Batch, Query
from models import losses as L
from models.baselines.gates import concatenation_gates, gated_prompts, perturbed, scaled_prompts
from models.baselines.routed_settings import RoutedConfig
from models.choice_figures import CHOICE_REDUCERS, choice_sums
from models.conversation import ConversationModel
from models.feedback import feedback_reducers
from models.lm.language_model import LanguageModel, load_language_model
from models.model_type import ModelType, StoredSize
from models.spt.dominance import DOMINANT
from models.spt.equal_prompts import equal_prompts_warning
from models.spt.linear_retriever import Float32Linear
from models.spt.retriever import masked_mean
from models.spt.soft_prompts import (
    SoftPrompts,
    check_warm_start_lm,
    prepend_each,
    start_prompts,
    stored_tokens,
    warm_start_prompts,
)
from models.trainable import Reducer, StepOutput
from utils.partitioning import whole


class RoutedPrompts(ConversationModel):
    """What the routers have in common."""

    config: RoutedConfig
    reducers: Mapping[str, Reducer] = {"usage": feedback_reducers("prompt")["usage"]}

    def __init__(self, lm: LanguageModel, tokenizer: PreTrainedTokenizerBase, config: RoutedConfig) -> None:
        super().__init__(lm, tokenizer, config)
        self.num_prompts = config.model.K
        self.num_virtual_tokens = config.model.peft_config.num_virtual_tokens
        self.soft_prompts = SoftPrompts(self.num_prompts, self.num_virtual_tokens, lm.width)
        start_prompts(self.soft_prompts, lm, tokenizer, config.model)
        if config.training.warm_start_prompt is not None:
            self.warm_start_key = "training.warm_start_prompt"

    @abstractmethod
    def routed_losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropies [M, N] of the targets, whose mean is L_LLM, and diagnostics."""

    def forward(self, batch: Batch, progress: float = 0.0) -> StepOutput:
        """L_LLM, each example after what its router puts before it."""
        token_losses, diagnostics = self.routed_losses(batch)
        loss = L.llm_loss(token_losses)
        return StepOutput(loss, {"llm": loss}, {"llm": token_losses.numel()}, diagnostics)

    def usage(self, choice: Tensor) -> dict[str, Tensor]:
        """The diagnostic of how often each prompt was chosen, from the prompts [B] of a batch."""
        return {"usage": L.count_each(choice, self.num_prompts)}

    def prompts_for(self, choice: Tensor | None, num_rows: int, query: Query | None = None) -> Tensor:
        """The chosen soft prompts [B, V, D]; the only one where there is nothing to choose."""
        if choice is None:
            return self.soft_prompts.weight.expand(num_rows, -1, -1)
        return self.soft_prompts.weight[choice]

    def warm_start(self) -> None:
        """Start the prompts from a trained one, with `warm_start_prompt`."""
        training = self.config.training
        if training.warm_start_prompt is not None:
            run = Path(training.warm_start_prompt)
            warm_start_prompts(self.soft_prompts, run, training.seed)
            check_warm_start_lm(run, self.config.model.base_lm)

    def faults(self) -> dict[str, str]:
        """Whether the soft prompts are all the same."""
        with whole([self.soft_prompts.weight]):
            warning = equal_prompts_warning(self.soft_prompts.weight)
        return {} if warning is None else {"equal prompts": warning}

    def describe(self) -> list[str]:
        """Model type, base LM and sizes; the router."""
        return [*super().describe(), f"router: {self.config.model.router}"]

    def metadata(self) -> dict[str, Any]:
        """Base LM, sizes and router."""
        model = self.config.model
        sizes = {"K": model.K, "V": model.peft_config.num_virtual_tokens}
        return {**super().metadata(), **sizes, "router": model.router}


class RandomRouting(RoutedPrompts):
    """Each row of a training batch has a prompt that is drawn for it: a dialogue, or an example of its own row.

    The validation loss is its expectation, the mean over all prompts. Decoding draws for each example.
    """

    reducers = {**RoutedPrompts.reducers, "losses": CHOICE_REDUCERS["losses"]}
    quiet_figures = frozenset({"prompt_loss", "chosen_loss", "random_loss", "choice_error"})

    def routed_losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """[1, N] after drawn prompts in training, [K, N] after each prompt in validation."""
        num_rows = batch.input_ids.shape[0]
        if not self.training:
            each = [prompt.expand(num_rows, -1, -1) for prompt in self.soft_prompts.weight]
            losses = torch.cat(
                [self.token_losses(self.hidden_with(batch, prompts), batch) for prompts in each]
            )
            sums = L.summed_losses(losses, batch.target_examples, batch.num_examples)  # [K, B]
            return losses, choice_sums(sums, losses.shape[1])
        drawn = torch.randint(self.num_prompts, (num_rows,), device=batch.input_ids.device)  # [R]
        hidden = self.hidden_with(batch, self.soft_prompts.weight[drawn])
        row_of_example = torch.zeros_like(batch.indices)
        row_of_example[batch.target_examples] = batch.target_rows
        return self.token_losses(hidden, batch), self.usage(drawn[row_of_example])


class TurnRouting(RoutedPrompts):
    """Prompt k has the examples of turn k, the last prompt those of all later turns."""

    def score_prompts(self, query: Query) -> Tensor:
        """[K, B]: 1 for the prompt of the example's turn, else 0."""
        return L.turn_assignment(query.turns, self.num_prompts)

    def routed_losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """[1, N], each prompt before those rows that have an example of its turn, up to the end of these."""
        choice = self.score_prompts(batch.query).argmax(dim=0)  # [B]
        prompt_of_target = choice[batch.target_examples]  # [N]
        texts = self.lm.embed(batch.input_ids)  # [R, S, D]
        places, hidden = [], []
        # all prompts, also those without an example: at ZeRO stage 3 the ranks must pass through the LM equally often
        for index, prompt in enumerate(self.soft_prompts.weight.split(1)):
            mine = (prompt_of_target == index).nonzero()[:, 0]
            rows, row_of_mine = batch.target_rows[mine].unique(return_inverse=True)
            positions = batch.target_positions[mine]
            length = int(positions.max()) + 1 if len(mine) else 1
            rows = rows if len(mine) else batch.target_rows[:1]
            states = self.lm.hidden(prepend_each(prompt, texts[rows, :length]))
            places.append(mine)
            hidden.append(states[row_of_mine, self.num_virtual_tokens + positions])
        order = torch.cat(places).argsort()
        return self.token_losses(torch.cat(hidden)[order][None], batch), self.usage(choice)


class _LearnedRouter(RoutedPrompts):
    """A linear router with bias, on the mean embedding of persona and context."""

    reads_query = True

    def __init__(self, lm: LanguageModel, tokenizer: PreTrainedTokenizerBase, config: RoutedConfig) -> None:
        super().__init__(lm, tokenizer, config)
        self.router = Float32Linear(lm.width, config.model.K)

    def logits(self, query: Query) -> Tensor:
        """[B, K] float32."""
        return self.router(masked_mean(self.lm.embed(query.ids), query.mask))

    def learning_parts(self) -> dict[str, Sequence[torch.nn.Parameter]]:
        """The soft prompts, and the router where it has more than one."""
        parts: dict[str, Sequence[torch.nn.Parameter]] = {
            "the soft prompts": list(self.soft_prompts.parameters())
        }
        if self.config.model.K > 1:
            parts["the router"] = list(self.router.parameters())
        return parts


class SparseMixture(_LearnedRouter):
    """SMoP: the prompt of the highest probability, times that probability; the router is perturbed in training."""

    def __init__(self, lm: LanguageModel, tokenizer: PreTrainedTokenizerBase, config: RoutedConfig) -> None:
        super().__init__(lm, tokenizer, config)
        noise = config.model.router_noise
        self.noise = 1 / self.num_prompts if noise is None else noise

    @property
    def has_retriever(self) -> bool:
        """Whether there is a choice."""
        return self.num_prompts > 1

    def probabilities(self, query: Query) -> Tensor:
        """[K, B] float32; perturbed in training mode."""
        logits = self.logits(query)
        if self.training and self.noise:
            logits = perturbed(logits, self.noise * torch.randn_like(logits))
        return F.softmax(logits, dim=1).T

    @torch.no_grad()
    def score_prompts(self, query: Query) -> Tensor:
        """The router's probabilities [K, B]."""
        return self.probabilities(query)

    def prompts_for(self, choice: Tensor | None, num_rows: int, query: Query | None = None) -> Tensor:
        """The chosen soft prompts [B, V, D], each times its probability."""
        if query is None or choice is None:
            raise ValueError("a prompt of SMoP is scaled for a text: its query and a choice are needed")
        return scaled_prompts(self.soft_prompts.weight, self.probabilities(query), choice)

    def routed_losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """[1, N], each row after the prompt of its example."""
        probabilities = self.probabilities(batch.query)  # [K, B]
        choice = probabilities.argmax(dim=0)
        prompts = scaled_prompts(self.soft_prompts.weight, probabilities, choice)[batch.example_of_row]
        return self.token_losses(self.hidden_with(batch, prompts), batch), self.usage(choice)

    def warm_start(self) -> None:
        """As for the others, times K: a router that knows nothing scales by 1 / K."""
        super().warm_start()
        if self.warm_start_key is not None:
            with torch.no_grad(), whole([self.soft_prompts.weight], changed=True):
                self.soft_prompts.weight.mul_(self.num_prompts)

    def warnings(self, row: Mapping[str, Any], what: str) -> list[str]:
        """Whether one prompt is chosen for nearly everything."""
        shares = row.get("prompt_share", [])
        if len(shares) < 2 or max(shares) <= DOMINANT:
            return []
        return [
            f"warning: prompt {shares.index(max(shares))} was chosen for {100 * max(shares):.1f} % of {what}; the "
            f"other {len(shares) - 1} are hardly used. More perturbation may spread the choice: model.router_noise is "
            f"{self.noise:g}"
        ]


class GatedConcatenation(_LearnedRouter):
    """All K prompts before every text, each times its gate: one prompt of K times V tokens, with nothing to choose."""

    reducers = {"gates": lambda total, count: {"prompt_gate": (total / max(1, count)).tolist()}}

    def __init__(self, lm: LanguageModel, tokenizer: PreTrainedTokenizerBase, config: RoutedConfig) -> None:
        super().__init__(lm, tokenizer, config)
        self.num_prompts, self.num_virtual_tokens = 1, config.model.K * self.num_virtual_tokens
        # it starts as prompt tuning with K times V tokens
        torch.nn.init.zeros_(self.router.weight)
        torch.nn.init.zeros_(self.router.bias)

    def prompts_for(self, choice: Tensor | None, num_rows: int, query: Query | None = None) -> Tensor:
        """All prompts [B, K * V, D], scaled for each text."""
        if query is None:
            raise ValueError("the gates are of a text: its query is needed")
        return gated_prompts(self.soft_prompts.weight, concatenation_gates(self.logits(query)))

    def routed_losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """[1, N], each row after all prompts."""
        gates = concatenation_gates(self.logits(batch.query))  # [K, B]
        prompts = gated_prompts(self.soft_prompts.weight, gates)[batch.example_of_row]
        return self.token_losses(self.hidden_with(batch, prompts), batch), {"gates": gates.sum(dim=1)}


ROUTERS: Mapping[str, type[RoutedPrompts]] = {
    "smop": SparseMixture,
    "random": RandomRouting,
    "turn": TurnRouting,
    "gated": GatedConcatenation,
}


def build_routed_prompts(config: RoutedConfig, tokenizer: PreTrainedTokenizerBase) -> RoutedPrompts:
    """Routed prompts on the configured base LM."""
    return ROUTERS[config.model.router](load_language_model(config.model), tokenizer, config)


def _stored_sizes(config: RoutedConfig, state: Mapping[str, Tensor]) -> list[StoredSize]:
    return [stored_tokens(config.model.peft_config, state.get("soft_prompts.weight"), axis=1)]


MODEL_TYPE = ModelType(config=RoutedConfig, build=build_routed_prompts, stored_sizes=_stored_sizes)
