"""The warning that the retriever's choice is worse than one prompt for all, with what was found to be the reason."""

from collections.abc import Mapping
from typing import Any

from models.spt.settings import SelectiveConfig
from models.spt.terms import teaches_choice

SIGNIFICANT = 2.0
"""standard errors that the chosen prompts' loss must be above that of the best fixed prompt"""
UNDECIDED = 0.99
"""share of the maximal entropy from which on a target is said to prefer no prompt"""
FEW_DIMENSIONS = 3.0
"""effective dimensions of what is scored, below which queries are said to vary little"""


def choice_warning(row: Mapping[str, Any], what: str, config: SelectiveConfig) -> str | None:
    """A sentence when the chosen prompts have a higher loss than the best fixed prompt; None otherwise.

    The advice names only settings that were seen to help.

    Args:
        row: the figures of models/spt/diagnostics.py; without them there is nothing to say.
        what: what the row is of.
        config: of the run, for what is set already.
    """
    if config.training.skip_retrieval or "chosen_loss" not in row:
        return None
    above = row["chosen_loss"] - row["fixed_loss"]
    if (
        above <= SIGNIFICANT * row["choice_error"] or above <= 1e-6 * row["fixed_loss"]
    ):  # the same but for rounding
        return None
    drawn = (
        f"; a prompt drawn at random has {row['random_loss']:.4f}"
        if row["random_loss"] < row["chosen_loss"]
        else ""
    )
    reasons = "; ".join(_reasons(row, config)) or "nothing in the target or the queries"
    return (
        f"warning: the choice is worse than no choice: on {what} the chosen prompts have a loss of "
        f"{row['chosen_loss']:.4f} nats per token, prompt {row['fixed_prompt']} alone {row['fixed_loss']:.4f} "
        f"(difference {above:.4f}, standard error {row['choice_error']:.4f}){drawn}. Found: {reasons}. "
        "python -m trainer.fit_router RUN says what any choice among these prompts can bring"
    )


def _reasons(row: Mapping[str, Any], config: SelectiveConfig) -> list[str]:
    model, training = config.model, config.training
    found = []
    if not teaches_choice(training):
        found.append("nothing teaches the retriever to choose, as L_selection is off")
    if row.get("target_entropy", 0) >= UNDECIDED:
        advice = "training.selection_target: sum makes it sharper"
        if training.selection_target == "sum":
            advice = "the prompts predict nearly alike"
        found.append(
            f"the target of L_selection has {100 * row['target_entropy']:.2f} % of the maximal entropy, so it prefers "
            f"no prompt ({advice})"
        )
    if row.get("vector_dimensions", FEW_DIMENSIONS) < FEW_DIMENSIONS:
        advice = " (model.retriever.query: last_turn with query_whiten varies more)"
        if model.retriever.query_whiten and model.retriever.query != "context_mean":
            advice = ""
        found.append(
            f"queries hardly vary as they are scored: {row['vector_dimensions']:.1f} effective dimensions and a mean "
            f"cosine of {row['vector_cosine']:.3f}, of {row['query_dimensions']:.1f} and {row['query_cosine']:.3f} "
            f"before{advice}"
        )
    if model.retriever.scorer == "cosine":
        found.append(
            "cosine scores have no bias for the prompt that is best on average (model.retriever.scorer: linear has "
            "one, with training.fusion: normalised or off)"
        )
    if found and model.released:
        found.append("such settings need model.fidelity: paper")
    return found
