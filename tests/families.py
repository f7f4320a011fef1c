"""A tiny LM with random weights of every family in models/lm/families.py; windows are shorter than the tests' texts."""

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

WINDOW = 20

_SIZES = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "max_position_embeddings": 512}
_LLAMA = {**_SIZES, "num_key_value_heads": 2, "intermediate_size": 64}
_HEAD = {**_LLAMA, "head_dim": 8}
_GPT2 = {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 512}
_EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}
_SLIDING = {"sliding_window": WINDOW}
_QWEN_SLIDING = {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2}

# family, or family and variant after a dash -> what its configuration is made of
CONFIGS = {
    "apertus": _LLAMA,
    "arcee": _LLAMA,
    "biogpt": {**_SIZES, "intermediate_size": 64},
    "bloom": {"hidden_size": 32, "n_layer": 4, "n_head": 4},
    "ernie4_5": _HEAD,
    "exaone4": {**_LLAMA, **_SLIDING, "sliding_window_pattern": 2},
    "falcon": {**_SIZES, "alibi": False},
    "falcon-alibi": {**_SIZES, "alibi": True},
    "falcon-several_key_heads": {**_SIZES, "multi_query": False},
    "gemma": _HEAD,
    "gemma3_text": {
        **_HEAD,
        **_SLIDING,
        "query_pre_attn_scalar": 8,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "glm": _HEAD,
    "glm4": _HEAD,
    "gpt2": _GPT2,
    "gpt_bigcode": _GPT2,
    "gpt_neo": {
        "hidden_size": 32,
        "num_layers": 4,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 2]],
        "window_size": WINDOW,
        "max_position_embeddings": 512,
    },
    "gpt_neox": {**_SIZES, "intermediate_size": 64},
    "gpt_oss": {**_HEAD, **_SLIDING, "num_local_experts": 2, "num_experts_per_tok": 1},
    "helium": _HEAD,
    "llama": _LLAMA,
    "ministral": {**_HEAD, **_SLIDING},
    "mistral": {**_LLAMA, **_SLIDING},
    "mixtral": {**_LLAMA, **_SLIDING, "num_local_experts": 2},
    "mpt": {"d_model": 32, "n_layers": 4, "n_heads": 4, "max_seq_len": 512},
    "nemotron": _LLAMA,
    "olmo": _LLAMA,
    "olmo2": _LLAMA,
    "olmo3": {**_LLAMA, **_SLIDING},
    "olmoe": {**_LLAMA, "num_experts": 2, "num_experts_per_tok": 1},
    "opt": {**_SIZES, "ffn_dim": 64, "word_embed_proj_dim": 32, "dropout": 0.0},
    "persimmon": {**_SIZES, "intermediate_size": 64},
    "phi3": {**_LLAMA, **_SLIDING},
    "qwen2": {**_LLAMA, **_QWEN_SLIDING},
    "qwen2_moe": {**_LLAMA, **_EXPERTS, "shared_expert_intermediate_size": 16},
    "qwen3": {**_HEAD, **_QWEN_SLIDING},
    "qwen3_moe": {**_HEAD, **_EXPERTS},
    "seed_oss": _HEAD,
    "smollm3": _LLAMA,
    "stablelm": _LLAMA,
    "starcoder2": {**_LLAMA, **_SLIDING},
    "xglm": {
        "d_model": 32,
        "ffn_dim": 64,
        "num_layers": 4,
        "attention_heads": 4,
        "max_position_embeddings": 512,
        "dropout": 0.0,
    },
}
WINDOWED = [name for name, sizes in CONFIGS.items() if WINDOW in sizes.values()]


def tiny_lm(name: str, tokenizer: PreTrainedTokenizerBase, window: int = WINDOW) -> PreTrainedModel:
    """The LM of an entry of CONFIGS, the same at every call; a head of its own, so that replies vary."""
    sizes = {
        key: window if value == WINDOW and "window" in key else value for key, value in CONFIGS[name].items()
    }
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = AutoConfig.for_model(
        name.partition("-")[0], vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **ids, **sizes
    )
    config.tie_word_embeddings = False
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():  # weights of 0.02 give flat distributions, whose argmax would prove little
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    head = model.get_output_embeddings()
    weight = torch.randn_like(head.weight)
    weight[[ids["bos_token_id"], ids["eos_token_id"], tokenizer.pad_token_id]] = 0  # no reply that is empty
    head.weight = nn.Parameter(weight)
    return model
