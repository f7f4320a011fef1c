"""K soft prompts of V virtual tokens each."""

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from models.lm.language_model import LanguageModel, weights_sha256
from models.model_type import StoredSize
from models.spt.settings import PromptSizes, PromptStartSettings
from models.trained_part import read_trained, trained_metadata
from utils.errors import UserError, shown
from utils.partitioning import whole, whole_shape

_NAME = "soft_prompts.weight"
TEXT_NOISE = 0.5  # of the embeddings' standard deviation: the text is still the nearest, yet prompts can part


WARM_START_NOISE = 0.1  # of the trained prompt's own: each starts about as good as it, yet they can part


class SoftPrompts(nn.Module):
    """The trainable tables; they stand before the token embeddings (paper, section 3.1).

    Args:
        num_prompts: K.
        num_virtual_tokens: V.
        width: D, the LM's embedding width.
    """

    def __init__(self, num_prompts: int, num_virtual_tokens: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_prompts, num_virtual_tokens, width))  # [K, V, D]


def prepend_each(prompts: Tensor, token_embeddings: Tensor) -> Tensor:
    """Every prompt before every row.

    Args:
        prompts: [M, V, D].
        token_embeddings: [R, S, D].

    Returns:
        [M * R, V + S, D], prompt by prompt.
    """
    num_prompts, num_virtual, width = prompts.shape
    rows, length, _ = token_embeddings.shape
    before = prompts[:, None].expand(num_prompts, rows, num_virtual, width)
    texts = token_embeddings[None].expand(num_prompts, rows, length, width)
    return torch.cat([before.to(texts.dtype), texts], dim=2).flatten(0, 1)


def stored_tokens(sizes: PromptSizes, stored: Tensor | None, axis: int) -> StoredSize:
    """The virtual tokens asked for, beside those of a stored tensor, which has them on one axis."""
    found = stored.shape[axis] if stored is not None and stored.dim() > axis else 0
    return StoredSize("peft_config.num_virtual_tokens", sizes.num_virtual_tokens, found)


@torch.no_grad()
def start_prompts(
    prompts: SoftPrompts, lm: LanguageModel, tokenizer: PreTrainedTokenizerBase, config: PromptStartSettings
) -> None:
    """`prompt_init`: leave N(0, 1), or start from embeddings of drawn tokens or of a text.

    Prompt 0 is the text; Gaussian noise sets the others apart. Without it they would stay equal for ever, as
    every loss is symmetric in the prompts.

    Raises:
        UserError: the text has no token.
    """
    if config.prompt_init == "random":
        return
    shape = prompts.weight.shape[:2]  # [K, V]
    if config.prompt_init == "vocab":
        ids = torch.randint(len(tokenizer), shape)
    else:
        text = tokenizer(config.prompt_init_text, add_special_tokens=False).input_ids
        if not text:
            raise UserError("model.prompt_init_text has no token")
        ids = torch.tensor(text).repeat(math.ceil(shape[1] / len(text)))[: shape[1]].expand(shape)
    table = lm.embedding_weight
    with whole([table]):
        prompts.weight.copy_(lm.embed(ids.to(table.device)))
        deviation = table.float().std().to(prompts.weight.device)
    if config.prompt_init == "text":
        prompts.weight[1:] += TEXT_NOISE * deviation * torch.randn_like(prompts.weight[1:])


@torch.no_grad()
def warm_start_prompts(prompts: SoftPrompts, run: Path, seed: int) -> None:
    """`warm_start_prompt`: prompt 0 becomes the one of a prompt_tuning run; Gaussian noise sets the others apart.

    Args:
        prompts: K tables of V virtual tokens.
        run: the run folder.
        seed: of the noise.

    Raises:
        UserError: there is no checkpoint, or it is not one prompt of V virtual tokens of the LM's width.
    """
    state, source = read_trained(run)
    num_prompts, *shape = whole_shape(prompts.weight)
    found = state.get(_NAME)
    if found is None or state.keys() != {_NAME} or found.dim() != 3 or len(found) != 1:
        raise UserError(
            f"training.warm_start_prompt: {source} is not of a prompt_tuning run: one soft prompt alone is needed"
        )
    if list(found.shape[1:]) != shape:
        raise UserError(
            f"training.warm_start_prompt: {source}: the prompt has shape {list(found.shape[1:])}, the configuration "
            f"asks for {shape} (virtual tokens, width)"
        )
    trained = found[0].float()  # [V, D]
    noise = torch.randn(num_prompts, *shape, generator=torch.Generator().manual_seed(seed))
    noise[0] = 0
    with whole([prompts.weight], changed=True):
        prompts.weight.copy_(trained + WARM_START_NOISE * trained.std() * noise)


def check_warm_start_lm(run: Path, base_lm: str | None) -> None:
    """Refuse `warm_start_prompt` from a run on another LM: of equal width, its prompt would fit and mean nothing.

    Args:
        run: the run folder; its metadata has the hash of its LM's weights.
        base_lm: what is trained on now.

    Raises:
        UserError: the weights are others, or one of the hashes is not to be had.
    """
    metadata = trained_metadata(run)
    theirs, ours = metadata.get("base_model_sha256"), weights_sha256(base_lm) if base_lm else None
    if ours is None or theirs != ours:
        raise UserError(
            f"training.warm_start_prompt: {run} is of another base LM ({shown(metadata.get('base_model'))}) than this "
            f"training ({base_lm}): their weights differ; train the prompt on this one first"
        )
