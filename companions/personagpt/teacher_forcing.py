"""Runs a model over true answers, in batches, and keeps of each what `scores` asks for: no logits of a whole file."""

import dataclasses
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from companions.personagpt.scores import AnswerScore, teacher_forced_f1
from dataset.batch import Batch, Collator
from dataset.encoding import EncodedExample
from dataset.row_files import KeptRows
from models.conversation import ConversationModel
from models.decoding.decode import decoding_batches
from utils.distributed import DistributedContext
from utils.errors import UserError

_TOKENS = 256  # of which the logits are in memory at a time


def score_answers(
    model: ConversationModel,
    examples: Sequence[EncodedExample],
    batch_size: int,
    distributed: DistributedContext,
    kept: KeptRows | None = None,
) -> dict[int, AnswerScore]:
    """Score this rank's share of the answers, by their place in `examples`.

    Args:
        model: in evaluation mode, on the device of the process.
        examples: encoded with their responses; what their targets are does not matter.
        batch_size: answers per batch; those of one speaker in one dialogue share a row.
        distributed: the processes that share the work.
        kept: gets the scores batch by batch; those that it has are not computed again.

    Raises:
        UserError: a loss is no number, or a row cannot be kept.
    """
    eos_id = int(model.tokenizer.eos_token_id)
    collator = Collator(pad_id=eos_id, share_rows=True)
    # the first token counts in the token perplexity, wherever it was not trained
    whole = [
        dataclasses.replace(example, targets=((example.query_end, len(example.ids)),)) for example in examples
    ]
    planned = decoding_batches(whole, batch_size)
    batches = (
        planned[distributed.rank :: distributed.size] if kept is None else kept.left(planned, distributed)
    )
    scores = {number: AnswerScore(**row) for number, row in kept.rows.items()} if kept else {}
    bar = tqdm(total=len(whole), desc="scoring", unit="ex", disable=not distributed.is_main, mininterval=0.5)
    with bar:
        for numbers in batches:
            batch = collator.train([whole[number] for number in numbers]).to(distributed.device)
            losses, likeliest = predict_targets(model, batch)
            counts = [len(whole[number].ids) - whole[number].query_end for number in numbers]
            parts = zip(losses.split(counts), likeliest.split(counts), strict=True)
            made = {
                number: _answer_score(whole[number], loss.tolist(), predicted.tolist(), eos_id)
                for number, (loss, predicted) in zip(numbers, parts, strict=True)
            }
            if kept is not None:
                kept.add({number: dataclasses.asdict(score) for number, score in made.items()})
            scores |= made
            bar.update(len(numbers) * distributed.size)
    return scores


def _answer_score(
    example: EncodedExample, losses: list[float], predicted: list[int], eos_id: int
) -> AnswerScore:
    if not all(map(math.isfinite, losses)):
        raise UserError(
            f"the LM's loss of example {example.index} of the file is {math.fsum(losses)}: its weights hold no "
            "numbers, or model.load_bit is too narrow for this LM (try --set model.load_bit=32)"
        )
    true = example.ids[example.query_end :].tolist()
    f1 = teacher_forced_f1(predicted[1:], true[1:], eos_id)
    return AnswerScore(losses[0], math.fsum(losses[1:]), len(true), f1)


@torch.inference_mode()
def predict_targets(model: ConversationModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Cross-entropies [N] (nats, float32) of a batch's targets, and the likeliest tokens [N] in their places.

    Args:
        model: in evaluation mode.
        batch: N target tokens; no soft prompt stands before its rows.
    """
    hidden = model.hidden_with(batch, None)[0]  # [N, H]
    losses, likeliest = [], []
    for part, targets in zip(hidden.split(_TOKENS), batch.target_ids.split(_TOKENS), strict=True):
        logits = F.linear(part, model.lm.head_weight).float()  # [<= _TOKENS, Vocab]
        losses.append(F.cross_entropy(logits, targets, reduction="none"))
        likeliest.append(logits.argmax(dim=1))
    return torch.cat(losses).cpu(), torch.cat(likeliest).cpu()
