"""The two kinds of LMs: an encoder reads the question and a decoder writes, or one decoder does both.

Each gives the losses of targets, and the states that beam search goes on from.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from companions.lamp.lm.beam_search import Decoder
from companions.lamp.lm.shared_keys import shares_keys
from dataset.batch import pad

_IGNORED = -100
_CPU_TOKENS = 1 << 12  # of the prompts that a CPU encodes together

Ids = Sequence[int]


class Kind(ABC):
    """What is done differently with the two kinds of LMs.

    Args:
        model: the LM.
        start_id: what an output begins with.
        pad_id: fills up rows; it is masked wherever it stands.
    """

    def __init__(self, model: PreTrainedModel, start_id: int, pad_id: int) -> None:
        self.model, self.start_id, self.pad_id = model, start_id, pad_id

    @property
    def is_sharded(self) -> bool:
        """At ZeRO stage 3 all ranks fetch each other's weights, so that all must call the LM equally often."""
        return hasattr(next(self.model.parameters()), "ds_id")

    @abstractmethod
    def read(self, sources: Sequence[Ids]) -> Any:
        """What losses and outputs of these prompts share."""

    @abstractmethod
    def token_losses(self, read: Any, targets: Sequence[Ids]) -> tuple[Tensor, Tensor]:
        """Cross-entropy of each target token in float32 [N], and whose target it is of [N]."""

    @abstractmethod
    def decoder(self, read: Any) -> Decoder:
        """The states before the first token."""

    def padded(self, texts: Sequence[Ids], left: bool = False) -> tuple[Tensor, Tensor]:
        """Token ids and mask [B, S] on the LM's device; an empty text has one masked token."""
        ids, mask = pad(texts, self.pad_id, left, width=1)
        return ids.to(self.model.device), mask.long().to(self.model.device)


class EncoderDecoder(Kind):
    """An LM such as T5 or BART: prompts are encoded once, for the losses, the output and all of its beams."""

    def read(self, sources: Sequence[Ids]) -> tuple[Tensor, Tensor]:
        """Hidden states [B, S, H], 0 where prompts are padded, and mask [B, S] of the prompts."""
        ids, mask = self.padded(sources)
        encoder = self.model.get_encoder()
        if ids.device.type != "cpu" or torch.is_grad_enabled() or self.is_sharded:
            return encoder(input_ids=ids, attention_mask=mask).last_hidden_state, mask
        # a CPU spends more on masks and padding than it gains from a large batch: prompts of one length go together
        lengths, hidden = mask.sum(dim=1), None
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero().flatten()
            for some in rows.split(max(1, _CPU_TOKENS // max(1, length))):
                part = slice(0, max(1, length))
                made = encoder(input_ids=ids[some, part], attention_mask=mask[some, part]).last_hidden_state
                if hidden is None:
                    hidden = made.new_zeros(*ids.shape, made.shape[2])
                hidden[some, part] = made
        assert hidden is not None
        return hidden, mask

    def token_losses(self, read: tuple[Tensor, Tensor], targets: Sequence[Ids]) -> tuple[Tensor, Tensor]:
        """From one pass of the decoder over the targets; see `Kind`."""
        hidden, mask = read
        ids, is_target = self.padded(targets)
        labels = ids.masked_fill(is_target == 0, _IGNORED)
        logits = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
            attention_mask=mask,
            labels=labels,
            use_cache=False,
        ).logits
        kept = labels != _IGNORED
        losses = F.cross_entropy(logits[kept].float(), labels[kept], reduction="none")
        return losses, kept.nonzero()[:, 0]

    def decoder(self, read: tuple[Tensor, Tensor]) -> Decoder:
        """See `Kind`."""
        return _CrossDecoder(self.model, *read, self.start_id)


class _CrossDecoder:
    """Keys and values of the output so far by row, and those of the prompt by question, which its beams share."""

    def __init__(self, model: PreTrainedModel, hidden: Tensor, mask: Tensor, start_id: int) -> None:
        self.model, self.hidden, self.mask, self.start_id = model, hidden, mask, start_id
        self.is_shared = shares_keys(model)
        self.cache: Any = None

    def first(self) -> Tensor:
        return self._step(torch.full((len(self.mask), 1), self.start_id, device=self.mask.device))

    def next(self, tokens: Tensor, rows: Tensor, questions: Tensor | None) -> Tensor:
        self.cache.self_attention_cache.reorder_cache(rows)
        # without sharing there is a copy per row; rows that continue one another have the same prompt
        kept = questions if self.is_shared else rows if len(rows) != len(self.mask) else None
        if kept is not None:
            self.cache.cross_attention_cache.reorder_cache(kept)
            self.hidden, self.mask = self.hidden[kept], self.mask[kept]
        return self._step(tokens[:, None])

    def _step(self, ids: Tensor) -> Tensor:
        output = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=self.hidden),
            attention_mask=self.mask,
            decoder_input_ids=ids,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.cache = output.past_key_values
        return output.logits[:, -1]


class DecoderOnly(Kind):
    """A causal LM: the target stands after the prompt."""

    def read(self, sources: Sequence[Ids]) -> Sequence[Ids]:
        """Nothing is shared: with its target a prompt is padded otherwise than without."""
        return [list(source) or [self.start_id] for source in sources]

    def token_losses(self, read: Sequence[Ids], targets: Sequence[Ids]) -> tuple[Tensor, Tensor]:
        """From one pass over prompts and targets; see `Kind`."""
        ids, _ = self.padded([[*source, *target] for source, target in zip(read, targets, strict=True)])
        place = torch.arange(ids.shape[1], device=ids.device)
        begin = torch.tensor([[len(source)] for source in read], device=ids.device)
        end = begin + torch.tensor([[len(target)] for target in targets], device=ids.device)
        is_target = (place >= begin) & (place < end)  # [B, S]
        # rows are padded on the right, where causal attention never looks
        hidden = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        logits = self._logits(hidden[:, :-1][is_target[:, 1:]])
        return F.cross_entropy(logits.float(), ids[is_target], reduction="none"), is_target.nonzero()[:, 0]

    def decoder(self, read: Sequence[Ids]) -> Decoder:
        """See `Kind`."""
        return _CausalDecoder(self.model, *self.padded(read, left=True), self._logits)

    def _logits(self, hidden: Tensor) -> Tensor:
        return self.model.get_output_embeddings()(hidden)


class _CausalDecoder:
    """Keys and values of prompt and output by row; prompts are padded on the left."""

    def __init__(self, model: PreTrainedModel, ids: Tensor, mask: Tensor, head: Any) -> None:
        self.model, self.ids, self.mask, self.head = model.base_model, ids, mask, head
        self.has_positions = "position_ids" in inspect.signature(self.model.forward).parameters
        self.cache: Any = None

    def first(self) -> Tensor:
        return self._step(self.ids, self.mask, (self.mask.cumsum(dim=1) - 1).clamp(min=0))

    def next(self, tokens: Tensor, rows: Tensor, questions: Tensor | None) -> Tensor:
        self.cache.reorder_cache(rows)
        if questions is not None:
            self.mask = self.mask[questions]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
        mask = self.mask.repeat_interleave(len(tokens) // len(self.mask), dim=0)
        return self._step(tokens[:, None], mask, mask.sum(dim=1, keepdim=True) - 1)

    def _step(self, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        more = {"position_ids": positions} if self.has_positions else {}
        output = self.model(
            input_ids=ids, attention_mask=mask, past_key_values=self.cache, use_cache=True, **more
        )
        self.cache = output.past_key_values
        return self.head(output.last_hidden_state[:, -1])
