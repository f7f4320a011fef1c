"""Decoding: one `generate` call per batch, the chosen prompt in each row's own embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from dataset.batch import InferenceBatch
from models.conversation import ConversationModel
from models.prefix_sharing import read_shared

MAX_NEW_TOKENS = 32  # spec, section 6


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model says to one example."""

    text: str
    """generated text without special tokens, not cut"""
    prompt: int | None
    """index of the soft prompt in front of it"""
    scores: list[float] | None
    """the retriever's K scores, before any selection noise"""


class StopAtMarks(StoppingCriteria):
    """Stops a row at a token that holds a character after which the text is cut anyway.

    Every cut mark of dataset/text.py contains ":" or a line break, so that a row need not go on behind it.
    """

    def __init__(self, model: ConversationModel) -> None:
        # the head may have more rows than the tokenizer has tokens (OPT: 50,272 and 50,265)
        rows, tokens = model.lm.head_weight.shape[0], len(model.tokenizer)
        texts = model.tokenizer.batch_decode([[token] for token in range(tokens)])
        self.stops = torch.zeros(max(rows, tokens), dtype=torch.bool)
        self.stops[:tokens] = torch.tensor([":" in text or "\n" in text for text in texts])

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        """[rows] bool: which rows are done."""
        self.stops = self.stops.to(input_ids.device)
        return self.stops[input_ids[:, -1]]


def pick_prompts(
    scores: Tensor | None, noise: float = 0.0, generator: torch.Generator | None = None
) -> Tensor | None:
    """argmax over prompts of the scores, with `noise` times Gaussian noise added first (spec, section 6).

    Args:
        scores: [K, B] or None.
        noise: `--selection_noise`.
        generator: CPU generator of the noise.

    Returns:
        [B], or None without scores.
    """
    if scores is None:
        return None
    if noise:
        scores = scores + noise * torch.randn(scores.shape, generator=generator).to(scores.device)
    return scores.argmax(dim=0)


@torch.inference_mode()
def generate_replies(
    model: ConversationModel,
    batch: InferenceBatch,
    scores: Tensor | None,
    choice: Tensor | None,
    stopping: Sequence[StoppingCriteria] = (),
    **options: Any,
) -> list[Reply]:
    """The reply of every row of a batch.

    The text does not depend on the neighbours in the batch: padding is masked and positions skip it.

    Args:
        model: a conversation model in evaluation mode.
        batch: left-padded texts.
        scores: [K, B] or None, kept with the replies.
        choice: [B] or None, the prompt of each row.
        stopping: further reasons to end a row.
        options: handed to `generate`, such as num_beams; the default is greedy, 32 new tokens.
    """
    lm, tokenizer = model.lm, model.tokenizer
    prompts = model.prompts_for(choice, len(batch.indices))
    settings = {"max_new_tokens": MAX_NEW_TOKENS, "do_sample": False, "num_beams": 1} | options
    cache = model.prefix_cache(len(batch.indices) * settings["num_beams"])
    if settings["num_beams"] == 1 and cache is None:
        start = read_shared(lm, batch, prompts, choice, settings["max_new_tokens"])
        embeddings, mask, cache = start.embeddings, start.mask, start.cache
    else:
        embeddings, mask = lm.embed(batch.input_ids), batch.attention_mask  # [B, S, D], [B, S]
        if prompts is not None:
            # [B, V + S, D]: the prompt stands first; the padding between it and the text is masked
            embeddings = torch.cat([prompts.to(embeddings.dtype), embeddings], dim=1)
            mask = torch.cat([mask.new_ones(prompts.shape[:2]), mask], dim=1)
        if cache is not None:
            mask = torch.cat([mask.new_ones(len(mask), cache.get_seq_length()), mask], dim=1)
    if cache is not None:
        # `generate` counts cached positions as part of its input, and skips them
        embeddings = F.pad(embeddings, (0, 0, int(cache.get_seq_length()), 0))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    tokens = lm.model.generate(
        inputs_embeds=embeddings,
        attention_mask=mask,
        past_key_values=cache,
        disable_compile=True,  # every batch has another shape
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=pad,
        stopping_criteria=StoppingCriteriaList(stopping),
        **settings,
    )  # [B, <= max_new_tokens]
    texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    chosen = [None] * len(texts) if choice is None else choice.tolist()
    columns = [None] * len(texts) if scores is None else scores.T.float().tolist()
    return [Reply(*reply) for reply in zip(texts, chosen, columns, strict=True)]
