"""The straightforward way: K passes per batch at 512 padded positions, full logits in float32, one by one.

Written from the description of the method, as one would write it first. The losses are the same.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dataset.batch import Batch, InferenceBatch
from models import losses as L
from models.selective import SelectivePromptTuning


def step_losses(model: SelectivePromptTuning, batch: Batch, padded: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Total and single losses of a batch with one row per example.

    Args:
        model: SPT.
        batch: rows in any order; each example has its own.
        padded: positions that every text is padded to.
    """
    settings = model.config.training
    lm = model.lm.model
    rows, length = batch.input_ids.shape
    ids = F.pad(batch.input_ids, (0, padded - length), value=model.tokenizer.pad_token_id)
    logits, token_losses = [], []
    for prompt in model.soft_prompts.weight:  # [V, D]
        embeddings = torch.cat([prompt.expand(rows, -1, -1), model.lm.embed(ids)], dim=1)
        hidden = _checkpointed(lm, embeddings)
        everywhere = lm.lm_head(hidden).float()  # [R, V + padded, Vocab]
        at_targets = everywhere[batch.target_rows, len(prompt) + batch.target_positions]  # [N, Vocab]
        logits.append(at_targets)
        token_losses.append(F.cross_entropy(at_targets, batch.target_ids, reduction="none"))
    stacked = torch.stack(token_losses)  # [K, N]
    owners, count = batch.target_examples, batch.num_examples
    scores = model.scores(batch.query)
    fused = sum(scores[k, owners, None] * part for k, part in enumerate(logits))
    fused_losses = F.cross_entropy(fused, batch.target_ids, reduction="none")
    parts = {
        "llm": L.llm_loss(stacked),
        "selection": L.selection_loss(scores, L.example_losses(stacked.detach(), owners, count)),
        "fusion": L.fusion_loss(fused_losses, owners, count),
        "contrastive": L.contrastive_loss(scores, batch.alike),
    }
    total = parts["llm"] + parts["fusion"] + settings.selective_loss_weight * parts["selection"]
    return total + settings.contrastive_weight * parts["contrastive"], parts


def _checkpointed(lm: torch.nn.Module, embeddings: Tensor) -> Tensor:
    """The LM with its activations recomputed in the backward pass."""
    run = lambda inputs: lm.base_model(inputs_embeds=inputs, use_cache=False).last_hidden_state  # noqa: E731
    return checkpoint(run, embeddings, use_reentrant=False)


@torch.inference_mode()
def decode(
    model: SelectivePromptTuning, batch: InferenceBatch, choice: Tensor, new_tokens: int
) -> list[Tensor]:
    """Greedy tokens of each example, one `generate` call per example with its own prompt."""
    replies = []
    for row, prompt in enumerate(choice.tolist()):
        text = batch.input_ids[row][batch.attention_mask[row].bool()]
        embeddings = torch.cat([model.soft_prompts.weight[prompt], model.lm.embed(text)])[None]
        tokens = model.lm.model.generate(
            inputs_embeds=embeddings,
            attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.long, device=embeddings.device),
            max_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=model.tokenizer.pad_token_id,
            eos_token_id=model.tokenizer.eos_token_id,
        )
        replies.append(tokens[0])
    return replies
