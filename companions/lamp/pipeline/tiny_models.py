"""Tiny models for a sample: an LM and two text encoders without any training, which know the sample's words.

`python -m companions.lamp.pipeline.tiny_models --task LaMP-3 --questions QUESTIONS --out FOLDER`
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from companions.lamp.questions import read_questions
from companions.lamp.tasks import Task, task_of
from utils.config.flags import Parser, natural
from utils.console import quiet_libraries
from utils.errors import run_main

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_SPECIAL = ("<pad>", "</s>", "<unk>", "<cls>", "<sep>")
_PAD, _END, _, _CLS, _SEP = range(len(_SPECIAL))
_WIDTH, _HEADS, _LONGEST = 64, 4, 256


def parser() -> Parser:
    """The flags."""
    flags = Parser(description="Tiny models without any training, for a sample.")
    flags.add_argument("--task", type=task_of, required=True, help="LaMP-1 to LaMP-7")
    flags.add_argument("--questions", type=Path, required=True, metavar="FILE", help="whose words they know")
    flags.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="gets lm, encoder, scorer")
    flags.add_argument("--seed", type=natural, default=0, help="of their weights (default 0)")
    return flags


def vocabulary(questions: Path, task: Task) -> list[str]:
    """The words of questions, items and labels, the most frequent first, as the tokenizers cut them."""
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Whitespace

    counts: Counter[str] = Counter()
    lower, cut = Lowercase(), Whitespace()

    def count(text: str) -> None:
        counts.update(word for word, _ in cut.pre_tokenize_str(lower.normalize_str(text)))

    for question in read_questions(questions, task):
        count(question.input)
        for item in question.profile:
            count(f"{task.document_of(item, use_date=True)} {task.item.template.format(**item)}")
    count(" ".join((*task.labels, task.aggregate.before_input, ",")))
    return sorted(counts, key=lambda word: (-counts[word], word))


def make(args: argparse.Namespace) -> None:
    """Write the models, each with its tokenizer, in the Hugging Face format."""
    import torch
    from transformers import BertConfig, BertModel, T5Config, T5ForConditionalGeneration
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    words = vocabulary(args.questions, args.task)
    size = len(_SPECIAL) + len(words)
    lm_config = T5Config(
        vocab_size=size,
        d_model=_WIDTH,
        d_kv=_WIDTH // _HEADS,
        d_ff=2 * _WIDTH,
        num_layers=2,
        num_heads=_HEADS,
        dropout_rate=0.0,
        pad_token_id=_PAD,
        eos_token_id=_END,
    )
    lm_config.decoder_start_token_id = _PAD
    encoder_config = BertConfig(
        vocab_size=size,
        hidden_size=_WIDTH,
        num_hidden_layers=1,
        num_attention_heads=_HEADS,
        intermediate_size=2 * _WIDTH,
        max_position_embeddings=_LONGEST,
        pad_token_id=_PAD,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(args.seed)
        made = {
            "lm": T5ForConditionalGeneration(lm_config),
            "encoder": BertModel(encoder_config, add_pooling_layer=False),
            "scorer": BertModel(encoder_config, add_pooling_layer=False),
        }
    for name, model in made.items():
        model.save_pretrained(args.out / name)
        _tokenizer(words, is_lm=name == "lm").save_pretrained(args.out / name)
        count = sum(parameter.numel() for parameter in model.parameters())
        print(f"{args.out / name}: {model.config.model_type}, {count} parameters, {size} tokens")


def _tokenizer(words: list[str], is_lm: bool) -> "PreTrainedTokenizerFast":
    """Whole words in lower case; texts end as T5 has them, or stand between BERT's two tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    numbers = {word: number for number, word in enumerate((*_SPECIAL, *words))}
    made = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>" if is_lm else "<cls> $A <sep>",
        special_tokens=[("</s>", _END), ("<cls>", _CLS), ("<sep>", _SEP)],
    )
    names = {"eos_token": "</s>"} if is_lm else {"cls_token": "<cls>", "sep_token": "<sep>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_max_length=_LONGEST,
        pad_token="<pad>",
        unk_token="<unk>",
        **names,
    )


def main() -> None:
    """Parse and make."""
    quiet_libraries()
    make(parser().parse_args())


if __name__ == "__main__":
    run_main(main)
