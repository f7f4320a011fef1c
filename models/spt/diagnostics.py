"""The diagnostics of a batch: how the retriever chooses and, in validation, what that is worth and what it rests on."""

import torch
from torch import Tensor

from models.choice_figures import CHOICE_REDUCERS, choice_sums, spread_reducer, spread_sums
from models.feedback import feedback_counts, feedback_reducers, preference_entropies
from models.spt.retriever import Retriever
from models.spt.settings import SelectiveTrainingSettings
from models.spt.terms import LossInputs, target_losses
from models.trainable import Reducer


def _target_entropy(total: Tensor, num_examples: int) -> dict[str, float | list[float]]:
    return {"target_entropy": total.item() / max(1, num_examples)}


REDUCERS: dict[str, Reducer] = {
    **feedback_reducers("prompt"),
    **CHOICE_REDUCERS,
    "target": _target_entropy,
    "queries": spread_reducer("query"),
    "vectors": spread_reducer("vector"),
}

QUIET = frozenset(
    {"prompt_loss", "random_loss", "choice_error", "best_share", "agreement_by_chance", "target_entropy"}
    | {f"{name}_{figure}" for name in ("query", "vector") for figure in ("cosine", "dimensions")}
)
"""figures that are not printed at an epoch's end"""


@torch.no_grad()
def diagnostics_of(
    inputs: LossInputs,
    retriever: Retriever | None,
    query: tuple[Tensor, Tensor] | None,
    settings: SelectiveTrainingSettings,
    has_selection: bool,
) -> dict[str, Tensor]:
    """Sums over the batch's examples, for `REDUCERS`.

    Args:
        inputs: of the losses.
        retriever: what chooses; None: the prompt is drawn.
        query: what it read, [B, Q, D] and [B, Q]; None where it is None.
        settings: the training section.
        has_selection: whether L_selection is on.
    """
    found = {} if retriever is None else feedback_counts(inputs.scores, -inputs.example_losses)
    num_prompts, num_tokens = inputs.token_losses.shape
    if inputs.training or num_prompts == 1:
        return found
    scores = None if retriever is None else inputs.scores
    found |= choice_sums(inputs.summed_losses(), num_tokens, scores)
    if has_selection:
        entropies = preference_entropies(-target_losses(inputs, settings), settings.tau_gold)  # [B]
        found["target"] = entropies.double().sum()
    if retriever is not None and query is not None:
        found["queries"] = spread_sums(retriever.queries(*query))
        found["vectors"] = spread_sums(retriever.vectors(*query))
    return found
