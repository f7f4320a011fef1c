"""What a fitted router sees of an example: the context as the frozen LM reads it, and the turn's number.

All of it is there before the response is. It depends on the text alone, not on the prompts.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dataset.batch import assign_rows, pad
from dataset.encoding import EncodedExample
from models.lm.language_model import LanguageModel

TURNS = 8
"""features of the turn's number; the last one stands for all later turns, too"""


@torch.no_grad()
def context_features(lm: LanguageModel, texts: Sequence[EncodedExample], device: torch.device) -> Tensor:
    """Means of the LM's last hidden states, read without a prompt: of the whole query, and of the last turn.

    Texts that begin alike are read once.

    Args:
        lm: in evaluation mode.
        texts: B examples.
        device: where the LM is.

    Returns:
        [B, 2 H] float64. An empty last turn, of a text that was cut, has the mean 0.
    """
    queries = [text.ids[: text.query_end] for text in texts]
    row_of_text, text_of_row = assign_rows(queries, [text.dialogue for text in texts])
    ids, _ = pad([queries[number] for number in text_of_row], 0)
    states = lm.hidden(lm.embed(ids.to(device))).double()  # [R, S, H]
    sums = torch.cat([torch.zeros_like(states[:, :1]), states.cumsum(dim=1)], dim=1)  # [R, S + 1, H]
    rows = torch.tensor(row_of_text, device=device)
    ends = torch.tensor([text.query_end for text in texts], device=device)
    starts = torch.tensor([text.last_turn for text in texts], device=device)
    whole = sums[rows, ends] / ends[:, None]
    last = (sums[rows, ends] - sums[rows, starts]) / (ends - starts).clamp(min=1)[:, None]
    return torch.cat([whole, last], dim=1)


def turn_features(turns: np.ndarray) -> np.ndarray:
    """[B, TURNS] float64 of turns [B]: 1 at the turn's number."""
    return np.eye(TURNS)[np.minimum(turns, TURNS - 1)]
