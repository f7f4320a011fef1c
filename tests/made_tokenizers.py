"""Tokenizers of every kind, trained on a few lines: what they do at blanks and borders is what differs."""

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<unk>", "<s>", "</s>"]
TEMPLATE = (
    "given persona: i ski . i cook .; context: Q: hello there ? R: hi ! Q: any dogs ? R: two dogs and a cat ."
)
LINES = [TEMPLATE, "Q: where is it ? R: it is here , my friend .", "abcdefghijklmnopqrstuvwxyz ;:.,?!'QR"]


def _byte_level(use_regex: bool, trim: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    # merges of long texts: with a border of the template in the middle of a token
    tokenizer.train_from_iterator([LINES[0]] * 5 + LINES, trainer)
    return tokenizer


def _unigram(scheme: str, split: bool = True) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme, split=split)
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(LINES * 3, trainer)
    return tokenizer


def _llama() -> Tokenizer:
    """As converted from sentencepiece: blanks are made visible by a normalizer, and nothing cuts the text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokens = SPECIAL + [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer.train_from_iterator(
        LINES, trainers.BpeTrainer(vocab_size=400, special_tokens=tokens, show_progress=False)
    )
    tokenizer.pre_tokenizer = None
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def _wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(LINES, trainer)
    return tokenizer


MAKERS = {
    "byte-level BPE": lambda: _byte_level(True, True),
    "merges across words": lambda: _byte_level(False, False),
    "merges across words, trimmed offsets": lambda: _byte_level(False, True),
    "sentencepiece, prefix always": lambda: _unigram("always"),
    "sentencepiece, prefix first": lambda: _unigram("first"),
    "sentencepiece, across words": lambda: _unigram("always", split=False),
    "sentencepiece as of Llama": _llama,
    "WordPiece": _wordpiece,
}
BYTES = tuple(MAKERS)[:3]
"""those that have a token for every byte, and give back every text as it was"""


def made_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer of this kind, with bos and eos."""
    return PreTrainedTokenizerFast(
        tokenizer_object=MAKERS[kind](), unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def pieces(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> str:
    """The text of tokens, with the blank that begins it, and without a clean-up of blanks."""
    backend = tokenizer.backend_tokenizer
    tokens = [str(backend.id_to_token(int(token))) for token in ids]
    if any("▁" in token for token in tokens):
        return "".join(tokens).replace("▁", " ")
    return str(backend.decode([int(token) for token in ids], skip_special_tokens=False))
