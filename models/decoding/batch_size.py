"""How many examples are decoded together: as many as memory has room for, where that changes nothing but the speed."""

import gc
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch

# has no types of its own
from psutil import virtual_memory  # type: ignore[import-untyped]

from models.conversation import ConversationModel
from models.lm.language_model import keys_and_values
from models.settings import Config
from utils.distributed import DistributedContext
from utils.errors import UserError
from utils.precision import PRECISIONS

FIXED = 16
"""where replies may depend on the batch size, which must then be the same on every machine"""
_MOST = {"cpu": 64}  # more rows make no faster products
_MOST_ELSEWHERE = 256
_SHARE = 0.5  # of the free memory; the rest is for what is read at a time, for beams and for others

# per row and entry of the vocabulary: the LM's logits, a float32 copy, what sorts or draws (float64)
_BYTES_PER_LOGIT = 24


def depends_on_batch_size(config: Config) -> str | None:
    """Why replies may be other ones at another batch size, in words; None where they are not."""
    if config.model.load_bit != 32:
        return f"in {PRECISIONS[config.model.load_bit]} replies may depend on it"
    if config.released_reads_padding and config.model.released:
        return "the release's retriever reads the padding of its batch"
    return None


def choose_batch_size(
    model: ConversationModel, config: Config, distributed: DistributedContext
) -> tuple[int, str]:
    """The batch size of this process where none is given, and why it is this one; the smallest of all ranks counts.

    Args:
        model: on the device that it decodes on.
        config: gives the longest text and what is generated.
        distributed: the processes that share the work; on a CPU they share its memory too.
    """
    reason = depends_on_batch_size(config)
    if reason:
        return FIXED, f"not by free memory, as {reason}"
    free = free_memory(distributed)
    row = bytes_per_row(model, config)
    most = _MOST.get(distributed.device.type, _MOST_ELSEWHERE)
    size = max(1, min(most, int(_SHARE * free / row)))
    return size, f"{row / 2**20:.0f} MiB per example, {free / 2**30:.1f} GiB free"


def free_memory(distributed: DistributedContext) -> int:
    """Bytes that this process may count on."""
    if distributed.device.type == "cuda":
        unused = torch.cuda.memory_reserved(distributed.device) - torch.cuda.memory_allocated(
            distributed.device
        )
        return torch.cuda.mem_get_info(distributed.device)[0] + unused
    return virtual_memory().available // distributed.size


@torch.no_grad()
def bytes_per_row(model: ConversationModel, config: Config) -> int:
    """Bytes that decoding takes for each further example: cache, embeddings and logits of the longest text."""
    new_tokens, copies = config.decoding.max_new_tokens, config.decoding.num_beams
    limit = model.text_limit(new_tokens)
    longest = config.dataset.max_token_length
    positions = model.num_virtual_tokens + (longest if limit is None else min(longest, limit)) + new_tokens
    # the LM itself says what it caches: configurations have many names for the number of key heads
    token = model.lm.embed(
        torch.zeros(1, 1, dtype=torch.long, device=model.lm.head_weight.device)
    )  # [1, 1, D]
    cached = sum(
        states.numel() * states.element_size()
        for layer in keys_and_values(model.lm.read(token)[1])
        for states in layer
    )
    embedded = (
        2 * token.numel() * token.element_size()
    )  # once more where `generate` repeats them for its beams
    vocabulary = model.lm.head_weight.shape[0]
    return copies * (positions * (cached + embedded) + vocabulary * _BYTES_PER_LOGIT)


def within_memory(
    batches: Sequence[Sequence[int]], work: Callable[[Sequence[int]], None], may_halve: bool
) -> Iterator[int]:
    """Do the work of each batch; where the device's memory is too small, that batch and all later ones are halved.

    Args:
        batches: example numbers.
        work: of one batch; what it did before it ran out of memory is done again.
        may_halve: whether smaller batches give the same.

    Yields:
        how many examples are done.

    Raises:
        UserError: memory is too small, and batches may not be halved or hold one example.
    """
    left = deque(batches)
    while left:
        batch = left[0]
        try:
            work(batch)
        except torch.OutOfMemoryError:
            if not may_halve or len(batch) == 1:
                raise UserError(
                    f"the device's memory is too small for {len(batch)} examples at once"
                    + ("" if len(batch) == 1 else "; ask for fewer with --batch_size")
                ) from None
        else:
            yield len(left.popleft())
            continue
        # outside of `except`, whose error holds the tensors of the failed pass
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        half = (len(batch) + 1) // 2
        print(f"out of memory with {len(batch)} examples at once; going on with {half}", flush=True)
        left = deque(part[start : start + half] for part in left for start in range(0, len(part), half))
