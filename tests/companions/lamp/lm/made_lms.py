"""Tiny LMs of several families with random weights and a tokenizer of their own."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PegasusConfig,
    PegasusForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from companions.lamp.lm.load import LM, made_lm

WORDS = "the a of review score is for movie good bad slow film 1 2 3 4 5 tag title comedy action text".split()
_SIZE = 96
_SEQ2SEQ = {
    "vocab_size": _SIZE,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": 1,
    "dropout": 0.0,
}
_CAUSAL = {"vocab_size": _SIZE, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
MODELS = {
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(
            vocab_size=_SIZE,
            d_model=16,
            d_kv=8,
            d_ff=32,
            num_layers=2,
            num_heads=2,
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
            dropout_rate=0.0,
        )
    ),
    "bart": lambda: BartForConditionalGeneration(BartConfig(**_SEQ2SEQ)),
    "pegasus": lambda: PegasusForConditionalGeneration(PegasusConfig(**_SEQ2SEQ)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=128, **_CAUSAL)),
    "opt": lambda: OPTForCausalLM(
        OPTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            ffn_dim=32,
            word_embed_proj_dim=16,
            max_position_embeddings=128,
            **_CAUSAL,
        )
    ),
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=128,
            **_CAUSAL,
        )
    ),
}
WITH_ENCODER = ("t5", "bart", "pegasus")


def tokenizer(adds_end: bool) -> PreTrainedTokenizerFast:
    """Words and letters; with an encoder texts end with eos."""
    letters = [chr(code) for code in range(33, 91)]
    vocabulary = ["<pad>", "</s>", "<s>", "<unk>", *WORDS, *[one for one in letters if one not in WORDS]]
    made = Tokenizer(
        models.WordLevel({word: place for place, word in enumerate(vocabulary[:_SIZE])}, unk_token="<unk>")
    )
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    single = "$A </s>" if adds_end else "<s> $A"
    made.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[("</s>", 1), ("<s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", bos_token="<s>", unk_token="<unk>"
    )


def made(family: str, seed: int = 0, attention: str = "sdpa") -> LM:
    """A tiny LM whose next token depends on what it has read, with an attention of the library's."""
    torch.manual_seed(seed)
    model = MODELS[family]()
    model.set_attn_implementation(attention)
    with torch.no_grad():  # weights of 0.02 give flat distributions, whose best output would prove little
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "position" not in name and "relative" not in name:
                parameter.normal_(0, 0.4)
        # eos is often very likely or very unlikely: outputs of many lengths
        model.get_output_embeddings().weight[1] *= 3
    return made_lm(model, tokenizer(family in WITH_ENCODER), family)


def prompts(lm: LM, count: int = 24, seed: int = 0) -> list[list[int]]:
    """Prompts of random words and of many lengths."""
    stream = torch.Generator().manual_seed(seed)
    texts = []
    for _ in range(count):
        length = int(torch.randint(1, 30, (1,), generator=stream))
        places = torch.randint(0, len(WORDS), (length,), generator=stream).tolist()
        texts.append(" ".join(WORDS[place] for place in places))
    return lm.tokenizer(texts)["input_ids"]
