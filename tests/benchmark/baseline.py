"""The baseline: K passes per batch at 512 padded positions, full logits in float32, one by one.

Written from the description of the method, as one would write it first. The losses are the same.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dataset.batch import Batch, InferenceBatch
from models import losses as L
from models.spt.model import SelectivePromptTuning


def step_losses(model: SelectivePromptTuning, batch: Batch, padded: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Total and single losses of a batch with one row per example.

    Args:
        model: SPT.
        batch: rows in any order; each example has its own.
        padded: positions that every text is padded to.
    """
    settings, lm = model.config.training, model.lm.model
    rows, length = batch.input_ids.shape
    ids = F.pad(batch.input_ids, (0, padded - length), value=model.tokenizer.pad_token_id)
    labels = torch.full_like(ids, -100)  # what cross_entropy leaves out
    labels[batch.target_rows, batch.target_positions] = batch.target_ids
    example_of_row = torch.zeros_like(batch.indices)
    example_of_row[batch.target_rows] = batch.target_examples
    counts = (labels >= 0).sum(dim=1)
    logits, row_losses, token_means = [], [], []
    for prompt in model.soft_prompts.weight:  # [V, D]
        embeddings = torch.cat([prompt.expand(rows, -1, -1), model.lm.embed(ids)], dim=1)
        # [R, padded, Vocab]
        logits.append(lm.lm_head(_checkpointed(lm, embeddings))[:, len(prompt) :].float())
        losses = _token_losses(logits[-1], labels)
        token_means.append(losses.sum() / counts.sum())
        row_losses.append(losses.sum(dim=1) / counts)
    scores = model.scores(batch.query)  # [K, B]
    of_rows = scores[:, example_of_row]  # [K, R]
    fused = sum(of_rows[k, :, None, None] * part for k, part in enumerate(logits))
    fused_rows = _token_losses(fused, labels).sum(dim=1) / counts
    parts = {
        "llm": torch.stack(token_means).mean(),
        "selection": L.selection_loss(of_rows, torch.stack(row_losses)),
        "fusion": fused_rows.mean(),
        "contrastive": L.contrastive_loss(scores, batch.pair_labels),
    }
    total = parts["llm"] + parts["fusion"] + settings.selective_loss_weight * parts["selection"]
    return total + settings.contrastive_weight * parts["contrastive"], parts


def _token_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropies [R, padded], 0 where there is no label."""
    flat = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none", ignore_index=-100)
    return flat.view_as(labels)


def _checkpointed(lm: torch.nn.Module, embeddings: Tensor) -> Tensor:
    """The LM with its activations recomputed in the backward pass."""
    run = lambda inputs: lm.base_model(inputs_embeds=inputs, use_cache=False).last_hidden_state  # noqa: E731
    return checkpoint(run, embeddings, use_reentrant=False)


@torch.inference_mode()
def decode(
    model: SelectivePromptTuning, batch: InferenceBatch, choice: Tensor, new_tokens: int
) -> list[Tensor]:
    """Greedy tokens of each example, one `generate` call per example of the padded batch, with its own prompt."""
    replies = []
    for row, prompt in enumerate(choice.tolist()):
        embeddings = torch.cat([model.soft_prompts.weight[prompt], model.lm.embed(batch.input_ids[row])])[
            None
        ]
        mask = torch.cat(
            [torch.ones_like(choice[:1]).expand(model.num_virtual_tokens), batch.attention_mask[row]]
        )
        tokens = model.lm.model.generate(
            inputs_embeds=embeddings,
            attention_mask=mask[None],
            max_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=model.tokenizer.pad_token_id,
            eos_token_id=model.tokenizer.eos_token_id,
        )
        replies.append(tokens[0])
    return replies
