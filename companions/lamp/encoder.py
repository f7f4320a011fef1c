"""The text encoder of dense retrieval (Contriever, Izacard et al., 2022): one for queries and documents."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from companions.lamp.loading import load_pretrained
from dataset.batch import pad as pad_right
from models.lm.families import longest_input
from models.onednn import use_onednn
from utils.errors import UserError
from utils.folders import write_folder
from utils.precision import Precision

_LONGEST = 512  # tokens, where the tokenizer states no limit
_BATCH_COST = 64  # tokens of padding that take a CPU as long as one batch more does


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean [B, H] over the positions of hidden states [B, S, H] where the mask [B, S] is 1; 0 where it never is."""
    total = hidden.masked_fill(mask.unsqueeze(-1) == 0, 0.0).sum(dim=1)
    return total / mask.sum(dim=1, keepdim=True).clamp(min=1)


def pad(texts: Sequence[Sequence[int]], pad_id: int | None) -> tuple[Tensor, Tensor]:
    """Token ids [B, S] of texts, padded on the right, and their mask [B, S]; any id pads where there is none for it."""
    ids, mask = pad_right(texts, pad_id or 0, width=1)  # a text without any token still takes a column
    return ids, mask.long()


def vectors_of(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Vectors [B, H] in float32 of texts [B, S] of token ids; `mask` [B, S] is 0 where they are padded."""
    return mean_pool(model(input_ids=ids, attention_mask=mask).last_hidden_state.float(), mask)


@dataclass(frozen=True)
class Encoder:
    """A Hugging Face encoder with its tokenizer; a text is the mean of its last hidden states, not normalised."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    """of a text, in tokens with the special ones; longer texts are cut on the right"""

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def tokenize(self, texts: Sequence[str], max_length: int | None = None) -> list[list[int]]:
        """Token ids of each text, with special tokens, of at most `max_length` (default: the encoder's)."""
        if not texts:
            return []
        limit = self.max_length if max_length is None else min(max_length, self.max_length)
        return self.tokenizer(
            list(texts),
            truncation=True,
            max_length=limit,
            return_attention_mask=False,
            return_token_type_ids=False,
        ).input_ids

    def pooled(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Vectors [B, H] of texts [B] of token ids, in one padded batch; gradients flow as the caller has it."""
        padded, mask = (tensor.to(self.device) for tensor in pad(ids, self.tokenizer.pad_token_id))
        return vectors_of(self.model, padded, mask)

    @torch.inference_mode()
    def embed(self, ids: Sequence[Sequence[int]], batch_size: int = 16) -> tuple[Tensor, Tensor]:
        """Vectors [U, H] of the U different texts among N, on the CPU, and which of them each text has [N].

        Args:
            ids: token ids of each text, as `tokenize` gives them.
            batch_size: texts of the full length in one batch; of shorter ones as many more as take the same memory.
        """
        keys = [tuple(text) for text in ids]
        texts = sorted(set(keys), key=lambda text: (-len(text), text))
        row = {text: number for number, text in enumerate(texts)}
        tokens = batch_size * self.max_length
        # the calls of another batch cost an accelerator about as much as the work in half a full one
        padding = _BATCH_COST if self.device.type == "cpu" else tokens // 2
        vectors = [self.pooled(batch).cpu() for batch in batches_by_length(texts, tokens, padding)]
        return torch.cat(vectors), torch.tensor([row[key] for key in keys])

    def save(self, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write a folder that `load_encoder` reads, as does any program that reads Hugging Face models.

        Args:
            folder: in the place of an earlier one.
            weights: values of the model's parameters by name; those left out are written as they are.

        Raises:
            UserError: it cannot be written; an earlier one is as it was.
        """
        content = self.model.state_dict() | dict(weights or {})

        def fill(part: Path) -> None:
            self.model.save_pretrained(part, state_dict=content)
            self.tokenizer.save_pretrained(part)

        write_folder(folder, fill)


def batches_by_length(
    texts: Sequence[tuple[int, ...]], max_tokens: int, max_padding: int | None = None
) -> Iterator[Sequence[tuple[int, ...]]]:
    """Cut texts, the longest first, into batches.

    Args:
        texts: token ids.
        max_tokens: of a batch with its padding, but for a batch of one text.
        max_padding: tokens of it, or any number; without a limit, more is padding than text where texts of very
            different lengths are few.
    """
    batch: list[tuple[int, ...]] = []
    padding = 0
    for text in texts:
        longest = max(1, len(batch[0]) if batch else len(text))
        padding += longest - len(text)
        full = (len(batch) + 1) * longest > max_tokens
        if batch and (full or (max_padding is not None and padding > max_padding)):
            yield batch
            batch, padding = [], 0
        batch.append(text)
    if batch:
        yield batch


def load_encoder(
    name: str,
    device: torch.device | str = "cpu",
    flag: str = "--contriever_checkpoint FOLDER",
    precision: Precision = 32,
    with_pooler: bool = False,
) -> Encoder:
    """An encoder in evaluation mode.

    Args:
        name: of the Hugging Face hub, or a folder: one in the Hugging Face form, or a run with such a folder in it.
        device: where it computes.
        flag: what gives another one, for messages.
        precision: of its weights.
        with_pooler: its files must have the pooler of the first token, which vectors do without.

    Raises:
        UserError: it cannot be loaded, or is no encoder.
    """

    def class_of(config: Any) -> type[AutoModel]:
        if config.is_encoder_decoder:
            raise UserError(f"{name}: an encoder is needed, and '{config.model_type}' has a decoder")
        return AutoModel

    # many encoders come without a pooler
    optional = None if with_pooler else "pooler."
    model, tokenizer = load_pretrained("encoder", name, flag, precision, class_of, optional)
    limits = [tokenizer.model_max_length, longest_input(model.config) or _LONGEST]
    limit = min(limits) if tokenizer.model_max_length < 10**6 else min(_LONGEST, limits[1])
    use_onednn(model)
    return Encoder(model.eval().to(device), tokenizer, limit)
