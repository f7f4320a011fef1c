"""Decoding: one `generate` call per batch, each text after the soft prompt that was chosen for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers import __version__ as transformers_version

from dataset.batch import InferenceBatch
from dataset.text import STOP_CHARACTERS
from models.conversation import ConversationModel
from models.decoding.prefill import Prefill, Targets, prefill
from models.decoding.settings import DecodingSettings
from models.lm.cpu_decoding import fast_on_cpu
from utils.errors import UserError


def generation_config(settings: DecodingSettings, eos_id: int, pad_id: int | None) -> GenerationConfig:
    """Decoding settings in the words of the library; the rest is in `_processors`."""
    return GenerationConfig(
        do_sample=False,
        eos_token_id=eos_id,
        pad_token_id=eos_id if pad_id is None else pad_id,
        disable_compile=True,  # every batch has another shape
        max_new_tokens=settings.max_new_tokens,
        num_beams=settings.num_beams,
        no_repeat_ngram_size=settings.no_repeat_ngram_size,
    )


class DrawnTokens(LogitsProcessor):
    """Makes greedy decoding draw from the LM's distribution: the argmax of logits plus Gumbel noise is such a draw.

    Each example has noise of its own, so that batch size and number of ranks change no reply.

    Args:
        indices: [B] places of the examples in their file.
        seed: of the draws.
    """

    def __init__(self, indices: Tensor, seed: int) -> None:
        # the third number keeps these draws apart from those of the prompts
        self.generators = [np.random.default_rng([seed, index, 1]) for index in indices.tolist()]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Logits [B, Vocab] with the noise of one step, in float32.

        Noise in bf16 has a few hundred values, so that many tokens tie and the first of them is taken too often.
        """
        noise = np.stack([generator.gumbel(size=scores.shape[1]) for generator in self.generators])
        return scores.float() + torch.from_numpy(noise).to(scores.device, torch.float32)


def _processors(settings: DecodingSettings, indices: Tensor, seed: int) -> LogitsProcessorList:
    """What the library does not do, or does otherwise: it comes after the library's own, in this order."""
    processors: list[LogitsProcessor] = []
    if settings.repetition_penalty != 1:
        # `generate` would exempt as many tokens of the reply as the example has padding in its batch
        processors.append(RepetitionPenaltyLogitsProcessor(settings.repetition_penalty))
    if not settings.do_sample:
        return LogitsProcessorList(processors)
    processors.append(TemperatureLogitsWarper(settings.temperature))
    if settings.top_k:
        processors.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1:
        processors.append(TopPLogitsWarper(settings.top_p))
    return LogitsProcessorList([*processors, DrawnTokens(indices, seed)])


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model says to one example."""

    text: str
    """generated text without special tokens, not cut"""
    prompt: int | None
    """index of the soft prompt before it"""
    scores: list[float] | None
    """the retriever's K scores, before any selection noise"""
    ids: tuple[int, ...] = ()
    """generated token ids, uncut, up to and including the one that ended the text; no prompt, no padding"""
    nll: float | None = None
    """teacher-forced cross-entropy of the target, summed over its tokens, in nats; None where it was not asked for"""
    nll_tokens: int | None = None
    """how many tokens it is the sum over"""


class StopAtMarks(StoppingCriteria):
    """Stops a row at a token that holds a character after which the text is cut anyway.

    Args:
        model: gives the tokenizer, and the rows of the head.
        characters: which; without any no row is stopped. The default is that of SPT's texts.
    """

    def __init__(self, model: ConversationModel, characters: Sequence[str] = STOP_CHARACTERS) -> None:
        # the head may have more rows than the tokenizer has tokens (OPT: 50,272 and 50,265)
        rows, tokens = model.lm.head_weight.shape[0], len(model.tokenizer)
        texts = model.tokenizer.batch_decode([[token] for token in range(tokens)])
        self.stops = torch.zeros(max(rows, tokens), dtype=torch.bool)
        self.stops[:tokens] = torch.tensor([any(stop in text for stop in characters) for text in texts])

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        """[rows] bool: which rows are done."""
        self.stops = self.stops.to(input_ids.device)
        return self.stops[input_ids[:, -1]]


def choose_prompts(
    model: ConversationModel,
    batch: InferenceBatch,
    noise: float = 0.0,
    seed: int = 0,
    scores: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    """The scores and the soft prompt of each example of a batch.

    Without a retriever (`skip_retrieval`) the prompt is drawn. Draws depend on the seed and the example's place in
    its file, so that batch size and number of ranks change nothing.

    Args:
        model: a conversation model in evaluation mode.
        batch: B examples.
        noise: `--selection_noise`.
        seed: of the draws.
        scores: [K, B] of another router; None: the model's own.

    Returns:
        Scores [K, B] without noise, or None; indices [B], or None where the model has nothing to choose.

    Raises:
        UserError: a score is not a number.
    """
    scores = model.score_prompts(batch.query) if scores is None else scores
    if scores is not None:
        drawn = None
        if noise:
            # [K, B]
            drawn = noise * _per_example(batch, lambda draw: draw.standard_normal(len(scores)), seed).T
        return scores, pick_prompts(scores, drawn)
    if model.num_prompts > 1:
        return None, _per_example(batch, lambda draw: draw.integers(model.num_prompts), seed)
    return None, None


def _per_example(
    batch: InferenceBatch, draw: Callable[[np.random.Generator], ArrayLike], seed: int
) -> Tensor:
    """`draw(generator)` for each example, from a generator of its own: [B, ...] on the batch's device."""
    drawn = [draw(np.random.default_rng([seed, index])) for index in batch.indices.tolist()]
    return torch.from_numpy(np.stack(drawn)).to(batch.indices.device)


def pick_prompts(scores: Tensor, noise: Tensor | None = None) -> Tensor:
    """argmax over prompts of the scores, after noise is added (docs/method.md, section 6).

    Args:
        scores: [K, B].
        noise: [K, B] or None.

    Returns:
        [B].

    Raises:
        UserError: a score is not a finite number; an argmax would take prompt 0 in silence.
    """
    noisy = scores if noise is None else scores + noise.to(scores.dtype)
    if not bool(torch.isfinite(noisy).all()):
        raise UserError(
            "the retriever's scores are not finite numbers, so that no prompt can be chosen; if there is no error in "
            "--selection_noise, the training of this run has diverged: train it again with a lower --lr or with "
            "--grad_clip=1"
        )
    return noisy.argmax(dim=0)


@torch.inference_mode()
def generate_replies(
    model: ConversationModel,
    batch: InferenceBatch,
    scores: Tensor | None,
    choice: Tensor | None,
    settings: DecodingSettings | None = None,
    stopping: Sequence[StoppingCriteria] = (),
    seed: int = 0,
    targets: Targets | None = None,
) -> list[Reply]:
    """The reply of every example of a batch, and the loss of its target where one is given.

    In float32 the text does not depend on the neighbours in the batch: padding is masked, positions skip it, and it
    stands before everything else. In bf16 and float16 sums are rounded otherwise in another batch, so that of two
    nearly equal tokens the other one may win.

    Args:
        model: a conversation model in evaluation mode.
        batch: left-padded texts.
        scores: [K, B] or None, kept with the replies.
        choice: [B] or None, the prompt of each example.
        settings: the default is greedy decoding of 32 new tokens.
        stopping: further reasons to end a row.
        seed: of what `do_sample` draws.
        targets: the same examples with their responses: they are scored by the pass that fills the cache.
    """
    settings = settings or DecodingSettings()
    with fast_on_cpu(model.lm):
        start = prefill(model, batch, choice, settings.max_new_tokens, settings.num_beams, targets)
        tokens = _generate(model, batch, start, settings, stopping, seed)  # [B, <= max_new_tokens]
    texts = model.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    chosen = [None] * len(texts) if choice is None else choice.tolist()
    columns = [None] * len(texts) if scores is None else scores.T.float().tolist()
    ids = _without_padding(tokens, model.tokenizer.eos_token_id, stopping)
    sums, counts = [None] * len(texts), [None] * len(texts)
    if targets is not None and start.hidden is not None:
        sums, counts = (values.tolist() for values in model.summed_losses(start.hidden, targets.batch))
    return [Reply(*reply) for reply in zip(texts, chosen, columns, ids, sums, counts, strict=True)]


def _generate(
    model: ConversationModel,
    batch: InferenceBatch,
    start: Prefill,
    settings: DecodingSettings,
    stopping: Sequence[StoppingCriteria],
    seed: int,
) -> Tensor:
    """Token ids [B, <= max_new_tokens] that continue the texts; what follows a row's end is padding."""
    tokenizer = model.tokenizer
    # PreTrainedModel is annotated without it; token ids, as nothing else is asked for
    generate = cast(Callable[..., Tensor], model.lm.model.generate)
    tokens = generate(
        # `generate` counts cached positions as part of its input, and skips them
        inputs_embeds=F.pad(start.embeddings, (0, 0, start.length, 0)),
        attention_mask=start.mask,
        past_key_values=start.cache,
        generation_config=generation_config(settings, tokenizer.eos_token_id, tokenizer.pad_token_id),
        logits_processor=_processors(settings, batch.indices, seed),
        stopping_criteria=StoppingCriteriaList(stopping),
    )
    _check_steps(start.cache.get_seq_length() - start.length, tokens.shape[1], settings)
    return tokens


def _without_padding(
    tokens: Tensor, eos_id: int, stopping: Sequence[StoppingCriteria]
) -> list[tuple[int, ...]]:
    """Each row of tokens [B, T] up to the one that ended it: what follows is padding, which may have eos's id."""
    ended = tokens == eos_id  # [B, T]
    for criterion in stopping:
        for step in range(tokens.shape[1]):
            ended[:, step] |= criterion(tokens[:, : step + 1], None)
    # [B]; argmax is the first of equals, and 0 where there is none
    counts = torch.where(ended.any(dim=1), ended.int().argmax(dim=1) + 1, tokens.shape[1])
    return [tuple(row[:count]) for row, count in zip(tokens.tolist(), counts.tolist(), strict=True)]


def _check_steps(steps: int, new_tokens: int, settings: DecodingSettings) -> None:
    """Each new token is one step of the LM; with beams the best one may be shorter than the number of steps.

    Releases of transformers before 5.5 count cached positions otherwise and give other words without an error.
    """
    right = steps == new_tokens if settings.num_beams == 1 else new_tokens <= steps <= settings.max_new_tokens
    if not right:
        raise RuntimeError(
            f"{new_tokens} tokens were generated in {steps} steps: transformers {transformers_version} counts cached "
            "positions otherwise than this project; install a version that pyproject.toml names"
        )
