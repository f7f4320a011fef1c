"""Tokens of growing texts: read once, and the same as if each text were read alone."""

import random

import pytest
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers import models as tokenizer_models

from dataset import prefixes
from dataset.prefixes import cuts_before_spaces, tokens_of

WORDS = [
    "i'm",
    "it 's",
    "don't",
    "hello",
    "R:",
    "Q:",
    "42",
    "7",
    "!?",
    "...",
    "é",
    "日本",
    "\u2028",
    "a\tb",
    "x\n",
    "  ",
]
WORDS += [
    "'",
    "'s",
    "\u00a0",
    "ﬁ",
    "👍🏽",
    "e\u0301",
    "_",
    "-",
    "(",
    "\r",
    "\x1c",
    "\u200b",
    "ok.",
    "3rd",
    "'ll",
]


def _trained(pre_tokenizer, vocab_size=300, **model):
    tokenizer = Tokenizer(tokenizer_models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["Q: hello R: i'm ok . Q: it 's 42 ... R: don't !?"] * 3, trainer)
    tokenizer.encode_special_tokens = True
    return tokenizer


def _llama_3():
    split = pre_tokenizers.Split(Regex(prefixes._LLAMA_3), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([split, byte_level])


KINDS = {
    "gpt2": lambda: _trained(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "with a space before": lambda: _trained(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "bytes": lambda: _trained(pre_tokenizers.ByteLevel(add_prefix_space=False), 258),
    "llama3": lambda: _trained(_llama_3()),
}


def _dialogue(generator):
    """Texts of one dialogue as its examples have them, each the beginning of the next."""
    text = "given persona: i ski.; context:"
    texts = []
    for _ in range(generator.randint(1, 6)):
        for mark in (" Q: ", " R: "):
            text += mark + " ".join(generator.choices(WORDS, k=generator.randint(1, 5)))
        texts.append(text)
    return texts


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_those_of_each_text_alone(kind):
    """A token too many would be trained on, and every border after it would move."""
    tokenizer = KINDS[kind]()
    assert cuts_before_spaces(tokenizer)
    generator = random.Random(1)
    texts = [text for _ in range(300) for text in _dialogue(generator)]
    for text, tokens in zip(texts, tokens_of(texts, tokenizer, share=True), strict=True):
        alone = tokenizer.encode(text, add_special_tokens=False)
        assert tokens.ids == alone.ids
        assert len(tokens) == len(alone.ids)
        assert [tokens.at(char) for char in range(len(text))] == [
            alone.char_to_token(char) for char in range(len(text))
        ]


def test_growing_texts_are_read_once(monkeypatch):
    """Each beginning read anew makes the work grow with the square of a dialogue's turns."""
    tokenizer = KINDS["gpt2"]()
    read = []

    class Counting:
        def encode_batch(self, texts, **named):
            read.extend(texts)
            return tokenizer.encode_batch(texts, **named)

    texts = ["a Q: b", "a Q: b R: c", "a Q: b R: c Q: d", "z", "z R: e"]
    tokens_of(texts, Counting(), share=True)
    assert read == [texts[2], texts[4]]


@pytest.mark.parametrize(
    ("texts", "number"),
    [
        (["a Q: hel", "a Q: hello"], 2),
        (["a ", "a  Q: b"], 2),
        (["a\n", "a\n Q: b"], 2),
        (["a", "a \u0301b"], 2),
        (["a", "a "], 2),
        (["a", "a"], 2),
        (["a Q: b", "c"], 2),
        (["a", "a Q: b"], 1),
    ],
)
def test_a_text_that_ends_within_a_part_is_read_itself(texts, number):
    """Where the longer text goes on in the same word or white space, its tokens are others."""
    tokenizer = KINDS["gpt2"]()
    tokens = tokens_of(texts, tokenizer, share=True)
    assert len({id(one.encoding) for one in tokens}) == number
    assert [one.ids for one in tokens] == [
        tokenizer.encode(text, add_special_tokens=False).ids for text in texts
    ]


def _changed(change):
    tokenizer = KINDS["gpt2"]()
    change(tokenizer)
    return tokenizer


def _with_pre_tokenizer(pre_tokenizer):
    return _changed(lambda tokenizer: setattr(tokenizer, "pre_tokenizer", pre_tokenizer))


@pytest.mark.parametrize(
    "make",
    [
        lambda: _with_pre_tokenizer(pre_tokenizers.Metaspace()),
        lambda: _with_pre_tokenizer(pre_tokenizers.ByteLevel(use_regex=False)),
        lambda: _with_pre_tokenizer(pre_tokenizers.Split(Regex(r"\w+ Q"), "isolated")),
        lambda: _changed(lambda tokenizer: setattr(tokenizer, "normalizer", normalizers.Replace(" Q", "Q"))),
        lambda: _changed(lambda tokenizer: tokenizer.add_tokens(["ok Q"])),
        lambda: _trained(pre_tokenizers.ByteLevel(), dropout=0.5),
        lambda: Tokenizer(tokenizer_models.BPE()),
    ],
)
def test_other_tokenizers_read_each_text(make):
    """Sentencepiece's tokens may go across spaces, and an added token too: the end of a text decides them."""
    assert not cuts_before_spaces(make())
