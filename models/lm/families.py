"""Which LM families are accepted: those whose batched decoding is tested against full forward passes, token by token.

A family that is not listed may well train, and then reply with other words than its own. It is refused when it is
loaded. To accept one more: its name here, a tiny configuration of it in tests/families.py, and the tests of
tests/models/test_families.py say whether it belongs here.
"""

from transformers import PretrainedConfig

from utils.errors import UserError, nearest, shown

FAMILIES = frozenset(
    """apertus arcee biogpt bloom ernie4_5 exaone4 falcon gemma gemma3_text glm glm4 gpt2 gpt_bigcode gpt_neo
    gpt_neox gpt_oss helium llama ministral mistral mixtral mpt nemotron olmo olmo2 olmo3 olmoe opt persimmon phi3 qwen2
    qwen2_moe qwen3 qwen3_moe seed_oss smollm3 stablelm starcoder2 xglm""".split()
)

# settings of LMs whose logits are not the head's product alone; the losses here would be silently wrong
_AFTER_HEAD = ("final_logit_softcapping", "logit_scale", "logits_scaling")

# names that configurations give the longest input, where it is not max_position_embeddings
_LIMITS = ("max_position_embeddings", "max_seq_len")

# rotary embeddings that change for all positions once a text is longer than this: cached keys would be of the old kind
_LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")


def check_family(config: PretrainedConfig, source: str) -> None:
    """Refuse an LM that this project would decode, or score, otherwise than the LM itself.

    Args:
        config: of the LM.
        source: its name, for the message.

    Raises:
        UserError: the family is not listed, or the LM scales or caps its logits.
    """
    if config.model_type not in FAMILIES:
        raise UserError(
            f"{source}: LMs of the family '{config.model_type}' are not supported: only families whose decoding is "
            f"tested are accepted{nearest(config.model_type, FAMILIES)}"
        )
    layers = getattr(config, "num_hidden_layers", 1)
    if not isinstance(layers, int) or layers < 1:
        raise UserError(f"{source}: num_hidden_layers = {shown(layers)}: an LM has at least 1 layer")
    scaled = [key for key in _AFTER_HEAD if getattr(config, key, None) not in (None, 1.0)]
    if scaled:
        raise UserError(f"{source}: LMs that change their logits ({scaled[0]}) are not supported")


def longest_input(config: PretrainedConfig) -> int | None:
    """The longest input of an LM in tokens, or None when it sets no limit."""
    limits = [getattr(config, name) for name in _LIMITS if isinstance(getattr(config, name, None), int)]
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope] if "rope_type" in rope else [kind for kind in rope.values() if isinstance(kind, dict)]
    if any(kind.get("rope_type") in _LENGTH_DEPENDENT_ROPE for kind in kinds):
        original = getattr(config, "original_max_position_embeddings", None)
        limits += [kind.get("original_max_position_embeddings", original) for kind in kinds]
    return min((limit for limit in limits if limit is not None), default=None)
