"""The warning that the retriever sends nearly everything to one soft prompt."""

from collections.abc import Mapping
from typing import Any

DOMINANT = 0.95


def dominance_warning(row: Mapping[str, Any], what: str) -> str | None:
    """A sentence when one prompt takes more than 95 % of the choices.

    Args:
        row: figures with `prompt_share` [K], the share of each prompt, and the losses that there are.
        what: what the row is of.
    """
    shares = row.get("prompt_share", [])
    if len(shares) < 2 or max(shares) <= DOMINANT:
        return None
    index = shares.index(max(shares))
    advice = (
        "Seen to help: training.assignment: turn, so that prompts learn from different examples, and "
        "model.retriever.scorer: linear, with training.fusion: normalised or off"
    )
    if "selection" not in row:
        advice = "Nothing teaches the retriever to choose: L_selection is off"
    return (
        f"warning: prompt {index} was chosen for {100 * shares[index]:.1f} % of {what}; the other "
        f"{len(shares) - 1} are hardly used. {advice}"
    )
