"""A router that is linear in what the frozen LM makes of a context and in the turn's number."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dataset.encoding import EncodedExample
from models.lm.language_model import LanguageModel
from models.routing.features import context_features, turn_features


@dataclass(frozen=True, slots=True)
class LinearRouter:
    """Scores of K prompts, the highest of which is chosen."""

    of_context: np.ndarray  # [K, 2 H] float64, weights of `context_features`
    of_turns: np.ndarray  # [K, TURNS] float64
    bias: np.ndarray  # [K] float64

    @property
    def reads_context(self) -> bool:
        """Whether it looks at more than the turn's number; else the LM need not read the text for it."""
        return bool(self.of_context.any())

    def scores(self, context: np.ndarray, turns: np.ndarray) -> np.ndarray:
        """[K, n] of contexts [n, 2 H] and turns [n]."""
        return self._of_turns(turns) + self.of_context @ context.T

    def scores_of(self, lm: LanguageModel, texts: Sequence[EncodedExample]) -> Tensor:
        """[K, B] float64, on the LM's device, of texts that were encoded without their responses."""
        device = lm.head_weight.device
        turns = np.array([text.turn for text in texts])
        if not self.reads_context:
            return torch.from_numpy(self._of_turns(turns)).to(device)
        context = context_features(lm, texts, device).cpu().numpy()
        return torch.from_numpy(self.scores(context, turns)).to(device)

    def _of_turns(self, turns: np.ndarray) -> np.ndarray:
        return self.of_turns @ turn_features(turns).T + self.bias[:, None]
