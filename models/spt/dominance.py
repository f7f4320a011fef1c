"""The warning that the retriever sends nearly everything to one soft prompt."""

from collections.abc import Mapping
from typing import Any

from models.spt.settings import SelectiveConfig
from models.spt.terms import teaches_choice

DOMINANT = 0.95


def dominance_warning(row: Mapping[str, Any], what: str, config: SelectiveConfig) -> str | None:
    """A sentence when one prompt takes more than 95 % of the choices.

    Args:
        row: figures with `prompt_share` [K], the share of each prompt.
        what: what the row is of.
        config: of the run, for what is set already.
    """
    shares = row.get("prompt_share", [])
    if len(shares) < 2 or max(shares) <= DOMINANT:
        return None
    index = shares.index(max(shares))
    return (
        f"warning: prompt {index} was chosen for {100 * shares[index]:.1f} % of {what}; the other "
        f"{len(shares) - 1} are hardly used{_advice(config)}"
    )


def _advice(config: SelectiveConfig) -> str:
    if not teaches_choice(config.training):
        return ". Nothing teaches the retriever to choose: L_selection is off"
    helpful = []
    if config.training.assignment == "all":
        helpful.append("training.assignment: turn, so that prompts learn from different examples")
    if config.model.retriever.scorer == "cosine":
        helpful.append("model.retriever.scorer: linear, with training.fusion: normalised or off")
    released = "; such settings need model.fidelity: paper" if config.model.released else ""
    return f". Seen to help: {', and '.join(helpful)}{released}" if helpful else ""
