"""Which tokens are counted and which the retriever reads, of any texts, for tokenizers of every kind."""

from functools import cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dataset.dialogue import PARTNER, SELF, Dialogue, Example, Utterance, examples_of
from dataset.encoding import ExampleEncoder
from dataset.prefixes import JoinedTokens
from dataset.text import cut_response, label_turns, prompt_text
from models.configuration import build_config
from models.release.reading import ReleasedEncoder
from tests.hunted import judged, spoken
from tests.made_tokenizers import BYTES, LINES, MAKERS, made_tokenizer, pieces


def _config(length):
    model = {"model_type": "textual", "model_name": "none"}
    return build_config([("test", {"model": model, "dataset": {"max_token_length": length}})])


CONFIG = _config(10**6)
TEMPLATE_WORDS = [
    "R:",
    "Q:",
    "; context:",
    "given persona:",
    ":",
    "hello",
    "there ?",
    "any dogs",
    "two dogs",
    "i ski .",
]
plain = st.lists(
    st.sampled_from(TEMPLATE_WORDS) | st.text("abcdefghijklmnopqrstuvwxyz.?!", min_size=1, max_size=6),
    min_size=1,
    max_size=4,
).map(" ".join)
"""of letters that every tokenizer has"""


@cache
def _tokenizer(kind):
    return made_tokenizer(kind)


def _encoded(kind, example, encoder=ExampleEncoder):
    made = encoder(_tokenizer(kind), CONFIG)
    return made.encode([example], with_response=True)[0], made.encode([example], with_response=False)[0]


def _example(persona, context, response):
    return Example(tuple(persona), tuple(context), response, 0, 0, "a.txt:1")


def _squeezed(text):
    return "".join(text.split()).lower()


@pytest.mark.parametrize("kind", MAKERS)
@given(
    persona=st.lists(plain, max_size=2),
    context=st.lists(plain, min_size=1, max_size=3),
    response=plain,
    strange=spoken,
)
@example(persona=["i ski ."], context=["any dogs ?"], response="two dogs and a cat .", strange="x")
@example(persona=[], context=["R:"], response="R:", strange="R:")
@example(persona=[], context=["hello there"], response="hi !", strange="\u0301")
def test_positions(survived, kind, persona, context, response, strange):
    """The loss counted a token of the prompt, or left out the response's first: nothing else shows it but the text."""
    if kind in BYTES:  # which know every character
        context, response = [*context, strange], strange + response
    tokenizer = _tokenizer(kind)
    one = _example(persona, context, response)
    text = prompt_text(one.persona, label_turns(one.context), one.response)
    prompt = text.persona + text.context
    train, inference = _encoded(kind, one)
    ((start, end),) = train.targets
    assert end == len(train.ids)
    assert train.ids[-1] == tokenizer.eos_token_id
    counted, query = (
        pieces(tokenizer, train.ids[start : end - 1]),
        pieces(tokenizer, train.ids[1 : train.query_end]),
    )
    if kind == "WordPiece":  # which keeps no blanks
        assert _squeezed(counted) == _squeezed(text.response)
        assert _squeezed(query) == _squeezed(prompt)
    elif kind in BYTES:
        assert counted == text.response
        assert query in (prompt, prompt + " ")  # the blank before the cue may be a token of its own
    else:
        assert counted.lstrip(" ") == text.response.lstrip(" ")
        assert counted.startswith(" ")
        assert query in (f" {prompt}", f" {prompt} ")
    # what decoding shows the LM is what training showed it before the response
    assert train.ids[:start].tolist() == inference.ids.tolist()
    assert inference.query_end == train.query_end
    survived("bad inputs")


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("smuggled", ["</s>", "<s>", "a</s> b", "<unk>"])
def test_no_text_smuggles_in_a_special_token(kind, smuggled):
    """Sentencepiece's Unigram finds `</s>` in any text: a response that says it taught the LM to stop in its middle."""
    train, inference = _encoded(kind, _example([smuggled], [smuggled], smuggled))
    tokenizer = _tokenizer(kind)
    for special in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        assert special not in train.ids[1:-1]
        assert special not in inference.ids[1:]
    if kind in BYTES:
        assert smuggled in pieces(tokenizer, train.ids[slice(*train.targets[0])])


@pytest.mark.parametrize("kind", ["merges across words", "merges across words, trimmed offsets"])
def test_the_tokenizer_does_merge_across_the_template(kind):
    """A tokenizer without such merges would prove nothing above."""
    whole = _tokenizer(kind).backend_tokenizer.encode(LINES[0], add_special_tokens=False)
    assert any(" R:" in pieces(_tokenizer(kind), [token]).rstrip() for token in whole.ids)
    one = _example(["i ski .", "i cook ."], ["hello there ?", "hi !", "any dogs ?"], "two dogs and a cat .")
    made = ExampleEncoder(_tokenizer(kind), CONFIG)
    assert isinstance(made._tokens(made._text(one, True)), JoinedTokens)


def test_the_release_reads_a_text_as_a_whole():
    """Under fidelity: released_code a token across the cue stays, as in the release."""
    kind, one = "merges across words", _example(["i ski .", "i cook ."], ["hello there ?"], "hi !")
    train, _ = _encoded(kind, one, ReleasedEncoder)
    body = prompt_text(one.persona, label_turns(one.context), one.response).body
    assert (
        train.ids[1:-1].tolist()
        == _tokenizer(kind).backend_tokenizer.encode(body, add_special_tokens=False).ids
    )


@given(texts=st.lists(spoken, min_size=1, max_size=5), response=spoken | st.none())
def test_the_parts_of_a_prompt(texts, response):
    """A text whose parts do not make its body has its borders elsewhere than where they are looked for."""
    text = prompt_text(texts[:2], label_turns(texts), response)
    assert text.body == text.persona + text.context + text.cue + text.response
    assert text.context.endswith(texts[-1])
    assert label_turns(texts)[-1].startswith("Q: ")
    assert cut_response(text.response) == text.response.partition("\n")[0] or ":" in text.response


class CountingTokenizer:
    """Counts the characters that a tokenizer is given."""

    def __init__(self, backend):
        self.backend, self.characters = backend, 0

    def __getattr__(self, name):
        return getattr(self.backend, name)

    def encode_batch(self, texts, **options):
        """Of the tokenizer."""
        self.characters += sum(map(len, texts))
        return self.backend.encode_batch(texts, **options)


@pytest.mark.parametrize("kind", ["byte-level BPE", "merges across words", "sentencepiece, prefix always"])
def test_a_dialogue_of_a_thousand_turns(kind):
    """Dropping turns one at a time, with the whole text read after each, took minutes for one long dialogue."""
    utterances = tuple(Utterance((PARTNER, SELF)[turn % 2], "hello there ?") for turn in range(1000))
    (longest,) = examples_of([Dialogue(utterances, {})], only_longest=True)
    made = ExampleEncoder(_tokenizer(kind), _config(60))
    made.tokenizer = counting = CountingTokenizer(made.tokenizer)
    (encoded,) = made.encode([longest], with_response=True)
    assert len(encoded.ids) <= 60
    body = prompt_text((), label_turns(longest.context), longest.response).body
    assert counting.characters < 8 * len(body)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_line_of_a_million_characters(kind):
    """A pasted book in the place of an utterance is text like any other, or told to be too long."""
    one = _example(["i ski ."], ["hello there " * 20_000], "hi !")
    train, inference = _encoded(kind, one)
    assert train.ids[: train.targets[0][0]].tolist() == inference.ids.tolist()


@pytest.mark.parametrize(
    "kind", ["byte-level BPE", "merges across words", "sentencepiece, prefix always", "WordPiece"]
)
@given(context=st.lists(plain, min_size=1, max_size=8), length=st.integers(10, 120), turns=st.integers(-1, 6))
def test_as_few_turns_are_dropped_as_it_takes(kind, context, length, turns):
    """A turn too many is context that the LM does not see; a turn too few is an error in the middle of a training."""
    encoder = ExampleEncoder(_tokenizer(kind), _config(10**6))
    encoder.max_turns = turns
    one = _example(["i ski ."], context, "hi !")
    kept = encoder._turns(one)
    whole = [len(encoder._tokens(encoder._text(one, True, drop))) + 2 for drop in range(kept)]
    expected = next((size for size in whole if size <= length), None)
    encoder.max_tokens = length
    encoded = judged(
        lambda: encoder.encode([one], with_response=True),
        f"a.txt:1: persona and last turn alone are {whole[-1]} tokens",
    )
    found = None if encoded is None else len(encoded[0].ids)
    assert found == expected
