"""How many prompts are asked at a time: as many as the user says, or as many as the LM's states have room for."""

from collections.abc import Callable

import torch

from companions.lamp.lm.load import LM
from companions.lamp.lm.settings import USUAL_BATCH, GenerationSettings
from companions.lamp.lm.shared_keys import shares_keys

Room = Callable[[int], int]
"""number of prompts of a batch, by the length in tokens of its longest one"""

_CPU_BYTES = 1 << 30  # of the states of a batch; larger ones are hardly faster
_SHARE = 0.25  # of an accelerator's free memory
_LOGITS = 3  # copies, as the search sorts them
_TARGET = 64  # logits of a target's tokens, all copies together


def room_of(lm: LM, generation: GenerationSettings, max_length: int) -> Room:
    """The size of batches for an LM.

    A given size is one of prompts of the full length, in tokens. Without one, a batch may be larger than the usual one
    where its states, with outputs of the full length, take no more than 1 GiB, or a quarter of an accelerator's free
    memory.

    Args:
        lm: on its device.
        generation: beams and limits.
        max_length: of a prompt, in tokens.
    """
    tokens = (generation.batch_size or USUAL_BATCH) * max_length
    room = _CPU_BYTES
    if generation.batch_size is not None:
        room = 0
    elif lm.model.device.type == "cuda":
        room = int(_SHARE * torch.cuda.mem_get_info(lm.model.device)[0])
    of_token, of_prompt = state_bytes(lm, generation)
    return lambda longest: max(1, tokens // max(1, longest), room // (of_prompt + of_token * longest))


def state_bytes(lm: LM, generation: GenerationSettings) -> tuple[int, int]:
    """Bytes that a token of a prompt takes, and those that a prompt takes beside its tokens: its outputs."""
    # a model of two parts has its sizes in theirs
    config, beams = lm.model.config.get_text_config(decoder=True), generation.num_beams
    # T5's heads together may be wider than its hidden states
    width = max(config.hidden_size, (getattr(config, "d_kv", None) or 0) * config.num_attention_heads)
    keys_and_values = 2 * config.num_hidden_layers * width * lm.model.dtype.itemsize
    vocabulary = lm.model.get_output_embeddings().weight.shape[0]
    logits = torch.float32.itemsize * vocabulary * (_LOGITS * beams + _TARGET)
    copies = 1 if lm.has_encoder and shares_keys(lm.model) else beams
    return copies * keys_and_values, beams * generation.max_length * keys_and_values + logits
