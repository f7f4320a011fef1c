"""The losses of SPT by name: the keys of each, when it is on, its weight, and what it is a mean over.

A new loss is one `LossTerm` and one call of `register_loss`; its keys then belong to `training`. The arithmetic is in
models/losses.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dataset.batch import Batch
from dataset.encoded import personas_of
from dataset.encoding import EncodedExample
from dataset.similarity import BleuPairs, PairLabels, fixed_pairs
from models import losses as L
from models.spt.settings import (
    ContrastiveLossSettings,
    FusionLossSettings,
    LLMLossSettings,
    SelectionLossSettings,
    SelectiveTrainingSettings,
)
from utils.config.schema import Section


@dataclass(frozen=True, slots=True)
class LossInputs:
    """What one batch offers to a loss: K prompts, B examples, N target tokens."""

    batch: Batch
    token_losses: Tensor  # [K, N] nats
    example_losses: Tensor  # [K, B] mean over each example's tokens, detached
    scores: Tensor  # [K, B] of the retriever
    hidden: Tensor  # [K, N, H] hidden states that predict the targets
    losses_of: Callable[[Tensor], Tensor]
    """hidden states [M, N, H] -> cross-entropies [M, N] of the targets"""
    progress: float
    """share of the training that is done, 0 to 1"""
    training: bool

    def summed_losses(self) -> Tensor:
        """[K, B] sums over each example's target tokens, detached."""
        return L.summed_losses(
            self.token_losses.detach(), self.batch.target_examples, self.batch.num_examples
        )


@dataclass(frozen=True, slots=True)
class LossTerm:
    """One loss. Its functions get the `training` section, which has the keys of `settings`."""

    settings: type[Section]
    """the loss's own keys of `training`"""
    compute: Callable[[LossInputs, Any], Tensor | None]
    """the unweighted loss, a scalar; None where this batch has nothing to say about it"""
    weight: Callable[[Any], float | None]
    """in the total; None: it is logged, and nothing learns from it"""
    is_on: Callable[[Any], bool] = lambda training: True
    count: Callable[[LossInputs], int] = lambda inputs: inputs.batch.num_examples
    """how many things of a batch it is a mean over, so that batches add up"""
    needs_retriever: bool = True
    pair_labels: Callable[[Any], PairLabels] | None = None
    """what labels the pairs of a training batch for it"""
    of_file: Callable[[Tensor, Sequence[EncodedExample], Any], Tensor] | None = None
    """from scores [K, n] of a whole validation file; for a loss that depends on which examples share a batch"""


def _llm(inputs: LossInputs, training: LLMLossSettings) -> Tensor:
    weights = None
    if training.annealing_nll:
        limits = training.annealing_scalar, training.annealing_min, training.annealing_max
        of_examples = L.annealing_weights(inputs.scores, inputs.progress, *limits)  # [K, B]
        weights = of_examples[:, inputs.batch.target_examples]  # [K, N]
    elif training.assignment != "all":
        num_prompts = len(inputs.token_losses)
        if training.assignment == "turn":
            shares = L.turn_assignment(inputs.batch.turns, num_prompts)  # [K, B]
        else:
            shares = L.posterior_assignment(inputs.summed_losses(), training.assignment_tau)
        # times K: the mean over prompts is then the sum of shares that add up to 1
        weights = num_prompts * shares[:, inputs.batch.target_examples]
    return L.llm_loss(inputs.token_losses, weights)


def _selection(inputs: LossInputs, training: SelectionLossSettings) -> Tensor:
    noise = None
    if training.adding_noise and inputs.training:
        noise = training.adding_noise * torch.randn_like(inputs.scores)
    losses = target_losses(inputs, training)
    return L.selection_loss(inputs.scores, losses, training.tau_gold, training.tau_sim, noise)


def target_losses(inputs: LossInputs, training: SelectionLossSettings) -> Tensor:
    """Losses [K, B] of the LM that the target of L_selection is made of: see `selection_target`."""
    return inputs.summed_losses() if training.selection_target == "sum" else inputs.example_losses


def _fusion(inputs: LossInputs, training: SelectiveTrainingSettings) -> Tensor:
    example_of_token = inputs.batch.target_examples
    if training.fusion == "normalised":
        of_tokens = inputs.token_losses, example_of_token, inputs.batch.num_examples
        return L.normalised_fusion_loss(inputs.scores, *of_tokens, training.tau_sim)
    # the head is linear: the score-weighted sum of logits is the head of the weighted sum of hidden states
    weights = inputs.scores[:, example_of_token].to(inputs.hidden.dtype)  # [K, N]
    fused = torch.einsum("kn,knh->nh", weights, inputs.hidden)
    return L.fusion_loss(inputs.losses_of(fused[None])[0], example_of_token, inputs.batch.num_examples)


def _contrastive(inputs: LossInputs, training: ContrastiveLossSettings) -> Tensor | None:
    # a validation batch has no labels: which examples share it must not matter, see `_contrastive_of_file`
    if not inputs.training and not inputs.batch.pair_labels.numel():
        return None
    return L.contrastive_loss(inputs.scores, inputs.batch.pair_labels)


def _contrastive_of_file(
    scores: Tensor, examples: Sequence[EncodedExample], training: ContrastiveLossSettings
) -> Tensor:
    """L_contrastive on pairs that depend on the file alone, from the scores [K, n] of its examples."""
    pairs = fixed_pairs(len(examples))  # [2, P]
    personas = personas_of(examples)
    labels = BleuPairs(training.contrastive_threshold).labels(personas, pairs)  # [P]
    return L.contrastive_loss(
        scores,
        torch.from_numpy(labels).to(scores.device),
        torch.from_numpy(pairs).to(scores.device),
    )


LOSSES: dict[str, LossTerm] = {
    "llm": LossTerm(
        settings=LLMLossSettings,
        compute=_llm,
        weight=lambda training: None if training.disable_nll else 1.0,
        count=lambda inputs: inputs.token_losses.numel(),
        needs_retriever=False,
    ),
    "selection": LossTerm(
        settings=SelectionLossSettings,
        compute=_selection,
        weight=lambda training: training.selective_loss_weight,
        is_on=lambda training: training.selective_loss,
    ),
    "fusion": LossTerm(
        settings=FusionLossSettings,
        compute=_fusion,
        weight=lambda training: 1.0,
        is_on=lambda training: training.ensemble and training.fusion != "off",
    ),
    "contrastive": LossTerm(
        settings=ContrastiveLossSettings,
        compute=_contrastive,
        weight=lambda training: training.contrastive_weight,
        is_on=lambda training: training.contrastive and training.contrastive_metric is not None,
        count=lambda inputs: inputs.batch.pair_labels.numel(),
        pair_labels=lambda training: BleuPairs(training.contrastive_threshold),
        of_file=_contrastive_of_file,
    ),
}


def register_loss(name: str, term: LossTerm) -> None:
    """Add a loss to SPT; its keys belong to `training` from now on.

    Raises:
        ValueError: the name is taken (two losses under one name would be logged as one), or it brings labels of
            pairs, and another loss does so already (a batch has one set of labels).
    """
    if name in LOSSES:
        raise ValueError(f"loss '{name}' is registered twice")
    if term.pair_labels and any(other.pair_labels for other in LOSSES.values()):
        raise ValueError(f"loss '{name}' labels pairs, and so does another one")
    LOSSES[name] = term


def active_losses(training: Any) -> dict[str, LossTerm]:
    """The losses that a `training` section of SPT asks for."""
    if training.only_nll:
        return {"llm": LOSSES["llm"]}
    return {
        name: term
        for name, term in LOSSES.items()
        if term.is_on(training) and not (term.needs_retriever and training.skip_retrieval)
    }


def teaches_choice(training: Any) -> bool:
    """Whether the retriever learns which prompt serves the LM best: by L_selection, or by L_fusion over losses."""
    active = active_losses(training)
    return "selection" in active or ("fusion" in active and training.fusion == "normalised")
