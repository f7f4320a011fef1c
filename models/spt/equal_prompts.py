"""The warning that all soft prompts are the same."""

from torch import Tensor

APART = 0.01
"""share of the longest prompt's length that two prompts must be apart; at this one their cosine is 0.99995"""


def equal_prompts_warning(prompts: Tensor) -> str | None:
    """A sentence when no two of K > 1 prompts differ by more than rounding and noise would make; None otherwise.

    Args:
        prompts: [K, V, D].
    """
    vectors = prompts.detach().flatten(1).float()  # [K, V * D]
    if len(vectors) < 2:
        return None
    # from the first: if any two are far apart, one of them is far from it
    farthest = float((vectors - vectors[0]).norm(dim=1).max())
    longest = float(vectors.norm(dim=1).max())
    if farthest > APART / 2 * longest:
        return None
    return (
        f"the {len(vectors)} soft prompts are all the same (no two differ by more than {100 * APART:g} % of their "
        "length): there is nothing to choose among, and what every loss treats alike stays alike; try another "
        "prompt_init"
    )
