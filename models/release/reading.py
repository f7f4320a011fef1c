"""How the authors' release reads its texts, where that differs from the paper (docs/departures.md)."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dataset.batch import Collator, Query, pad, turns_of
from dataset.dialogue import Example
from dataset.encoding import EncodedExample, ExampleEncoder
from dataset.prefixes import Tokens
from dataset.text import PromptText


class ReleasedEncoder(ExampleEncoder):
    """Inference texts end in `R: `, a text is tokenized as a whole, and one that is too long is cut by tokens."""

    drops_turns = False
    cuts_at_cue = False

    def _text(self, example: Example, with_response: bool, drop: int = 0) -> PromptText:
        text = super()._text(example, with_response, drop)
        return text if with_response else dataclasses.replace(text, response=" ")

    def _encoded(
        self, index: int, example: Example, text: PromptText, tokens: Tokens, with_response: bool
    ) -> EncodedExample:
        """Cut on the left in training, on the right at inference."""
        whole = super()._encoded(index, example, text, tokens, with_response)
        lost = len(whole.ids) - self.max_tokens
        if lost <= 0:
            return whole
        if not with_response:
            kept, end = whole.ids[: self.max_tokens], min(whole.query_end, self.max_tokens)
            return dataclasses.replace(whole, ids=kept, query_end=end, last_turn=min(whole.last_turn, end))
        targets = tuple((max(start - lost, 1), end - lost) for start, end in whole.targets if end - lost > 1)
        return dataclasses.replace(
            whole,
            ids=whole.ids[lost:],
            query_end=max(whole.query_end - lost, 1),
            targets=targets,
            last_turn=max(whole.last_turn - lost, 0),
        )


@dataclass(frozen=True, slots=True)
class ReleasedCollator(Collator):
    """The retriever reads whole texts with their padding, and the loss is masked by the padding's id.

    Args:
        max_tokens: width that training texts are padded to.
        hide_id: a token that the mask by id hides from the loss; it is eos where that is the padding too.
    """

    reads_padding = True

    max_tokens: int = 0
    hide_id: int | None = None

    def _query(self, examples: Sequence[EncodedExample], training: bool) -> Query:
        width = self.max_tokens if training else 0
        ids, mask = pad([example.ids for example in examples], self.pad_id, left=not training, width=width)
        everything = torch.ones_like(mask)
        return Query(ids, everything, everything, turns_of(examples))

    def _counted(self, ids: np.ndarray, places: np.ndarray) -> np.ndarray:
        return places if self.hide_id is None else places[ids[places] != self.hide_id]
