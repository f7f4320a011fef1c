"""Token borders: which tokens are target and which the retriever reads, for every kind of tokenizer."""

import dataclasses

import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers import models as tokenizer_models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from dataset.dialogue import Example
from dataset.text import label_turns, prompt_text
from models import reading
from tests.conftest import FAMILIES
from utils.errors import UserError

KINDS = (*FAMILIES, "metaspace")
TRICKY = Example(
    persona=("context: R: is my name.", "i like; context: Q: and R:"),
    context=("hello R: context: there", "given persona: none", "what about R:"),
    response="R: context: indeed",
    dialogue=0,
    turn=1,
    where="d.txt:4",
)


@pytest.fixture(scope="session")
def load_tokenizer(lm_folder, examples):
    """load_tokenizer(kind): a fresh tokenizer of a family, or one in the manner of sentencepiece."""
    texts = [prompt_text(e.persona, label_turns(e.context), e.response).body for e in examples]

    def load(kind="opt", **tokens):
        if kind in FAMILIES:
            return AutoTokenizer.from_pretrained(lm_folder(kind), **tokens)
        tokenizer = Tokenizer(tokenizer_models.BPE(unk_token="<unk>", byte_fallback=False))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        tokenizer.decoder = decoders.Metaspace()
        special = ["<unk>", "<s>", "</s>"]
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
        tokenizer.train_from_iterator(texts, trainer)
        names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", **tokens}
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)

    return load


@pytest.fixture
def make_encoder(load_tokenizer, make_config):
    """make_encoder(kind or tokenizer, model={..}, training={..}, dataset={..})."""

    def make(kind="opt", **sections):
        tokenizer = load_tokenizer(kind) if isinstance(kind, str) else kind
        return reading.make_encoder(tokenizer, make_config(**sections))

    return make


def _both(encoder, example):
    """An example encoded with its response and without."""
    return encoder.encode([example], with_response=True)[0], encoder.encode([example], with_response=False)[0]


def _text(encoder, ids):
    """The exact text of ids: no clean-up, and the blank that begins a word is kept."""
    pieces = [encoder.tokenizer.id_to_token(int(token)) for token in ids]
    if any("▁" in piece for piece in pieces):
        return "".join(pieces).replace("▁", " ")
    return encoder.tokenizer.decode([int(token) for token in ids], skip_special_tokens=False)


def _target_text(encoder, encoded):
    return [_text(encoder, encoded.ids[start:end]) for start, end in encoded.targets]


@pytest.mark.parametrize("kind", KINDS)
def test_training_ids_are_bos_text_eos(kind, make_encoder, examples):
    """A special token too many or too few is a sequence that the LM never saw."""
    encoder = make_encoder(kind)
    for example, encoded in zip(examples, encoder.encode(examples, with_response=True), strict=True):
        body = prompt_text(example.persona, label_turns(example.context), example.response).body
        text = encoder.tokenizer.encode(body, add_special_tokens=False).ids
        assert encoded.ids.tolist() == [*encoder.bos, *text, encoder.eos]
    assert [e.index for e in encoder.encode(examples, with_response=False)] == list(range(len(examples)))


@pytest.mark.parametrize("kind", KINDS)
def test_target_is_the_response_and_eos(kind, make_encoder, examples):
    """A border that is off by one trains the LM on the cue, or never on the first word."""
    encoder = make_encoder(kind)
    for example, encoded in zip(examples, encoder.encode(examples, with_response=True), strict=True):
        assert _target_text(encoder, encoded) == [f" {example.response}</s>"]
        assert encoded.ids[encoded.targets[0][0] :][-1] == encoder.eos


@pytest.mark.parametrize("kind", KINDS)
def test_inference_ids_are_a_prefix_of_training_ids(kind, make_encoder, examples):
    """At decoding the LM must see exactly what training showed it before the response."""
    encoder = make_encoder(kind)
    training = encoder.encode(examples, with_response=True)
    inference = encoder.encode(examples, with_response=False)
    for example, with_response, without in zip(examples, training, inference, strict=True):
        assert without.ids.tolist() == with_response.ids[: with_response.targets[0][0]].tolist()
        assert without.query_end == with_response.query_end
        assert without.targets == ()
        query = _text(encoder, without.ids[len(encoder.bos) : without.query_end])
        assert query.lstrip() == (
            f"given persona: {' '.join(example.persona)}; context: {' '.join(label_turns(example.context))}"
        )
        assert _text(encoder, without.ids[without.query_end :]) == " R:"
        assert without.turn == with_response.turn == example.turn
        assert without.last_turn == with_response.last_turn
        last_turn = _text(encoder, without.ids[without.last_turn : without.query_end])
        assert last_turn.lstrip() == label_turns(example.context)[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_texts_that_look_like_the_template_move_no_border(kind, make_encoder):
    """The release searches the decoded text for "context:" and "R:", and finds those of the speakers."""
    encoder = make_encoder(kind)
    training, inference = _both(encoder, TRICKY)
    assert _target_text(encoder, training) == [" R: context: indeed</s>"]
    assert inference.ids.tolist() == training.ids[: training.targets[0][0]].tolist()
    assert _text(encoder, training.ids[training.query_end : training.targets[0][0]]) == " R:"
    assert _text(encoder, training.ids[: training.query_end]).endswith("Q: what about R:")
    last_turn = _text(encoder, training.ids[training.last_turn : training.query_end])
    assert last_turn.lstrip() == label_turns(TRICKY.context)[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_data_cannot_smuggle_in_special_tokens(kind, make_encoder, load_tokenizer):
    """An utterance that holds "</s>" would end the text, and teach the LM to stop there."""
    tokenizer = load_tokenizer(kind)
    encoder = make_encoder(tokenizer)
    example = dataclasses.replace(TRICKY, context=("</s> hi <s>",), response="I </s> see")
    for _ in range(2):
        training, inference = _both(encoder, example)
        assert (training.ids == encoder.eos).sum() == 1
        assert training.ids[-1] == encoder.eos
        assert (inference.ids == encoder.eos).sum() == 0
        assert (training.ids == encoder.bos[0]).sum() == 1
        tokenizer("a call of the tokenizer sets its backend back")


def test_what_a_tokenizer_was_saved_with_neither_pads_nor_cuts(
    make_encoder, load_tokenizer, examples, tmp_path
):
    """A tokenizer saved after a padded or truncated call keeps both, and the ids would follow them."""
    tokenizer = load_tokenizer()
    tokenizer.backend_tokenizer.enable_padding(pad_id=0, pad_token="<pad>", length=300)
    tokenizer.backend_tokenizer.enable_truncation(20)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.backend_tokenizer.truncation
    expected = make_encoder().encode(examples[:5], with_response=True)
    found = make_encoder(loaded).encode(examples[:5], with_response=True)
    assert [e.ids.tolist() for e in found] == [e.ids.tolist() for e in expected]


def test_pad_that_is_eos_is_still_trained(make_encoder, load_tokenizer, examples):
    """Llama 2 has no pad token; a mask by pad id then never teaches the LM to stop."""
    encoder = make_encoder(load_tokenizer("opt", pad_token=None))
    assert encoder.pad == encoder.eos
    (encoded,) = encoder.encode(examples[:1], with_response=True)
    start, end = encoded.targets[-1]
    assert encoded.ids[start:end][-1] == encoder.eos
    assert make_encoder("opt").pad != encoder.eos


def test_no_bos_token(make_encoder, load_tokenizer, examples):
    """A border that counts a bos that is not there trains on a token of the prompt, and loses one of the reply."""
    encoder = make_encoder(load_tokenizer("metaspace", bos_token=None))
    assert encoder.bos == []
    training, inference = _both(encoder, examples[1])
    assert _text(encoder, training.ids).startswith(" given persona:")
    assert _target_text(encoder, training) == [f" {examples[1].response}</s>"]
    assert inference.ids.tolist() == training.ids[: training.targets[0][0]].tolist()


def test_a_tokenizer_without_eos_is_refused(make_encoder, load_tokenizer):
    """Without eos no response ever ends."""
    with pytest.raises(UserError, match="has no eos token"):
        make_encoder(load_tokenizer("opt", eos_token=None))


@pytest.mark.parametrize("kind", KINDS)
def test_unfrozen_parts_are_targets_too(kind, make_encoder, examples):
    """`freeze_persona: no` and `freeze_context: no` count each token once, but for the first.

    A token that holds the persona's full stop and the template's semicolon counts as context.
    """
    example = examples[2]
    persona = f"given persona: {' '.join(example.persona)}"
    context = f"; context: {' '.join(label_turns(example.context))} R:"
    response = f" {example.response}</s>"

    def spans(freeze_persona, freeze_context):
        frozen = {"freeze_persona": freeze_persona, "freeze_context": freeze_context}
        encoder = make_encoder(kind, training=frozen)
        (encoded,) = encoder.encode([example], with_response=True)
        return encoded, _target_text(encoder, encoded)

    _, (context_part, last) = spans(True, False)
    assert (context_part.removeprefix("."), last) == (context, response)
    encoded, (persona_part, last) = spans(False, True)
    assert (persona_part + context_part).lstrip() == persona + context
    assert (encoded.targets[0][0], last) == (1, response)
    encoded, parts = spans(False, False)
    assert parts == [persona_part, context_part, response]
    places = [place for start, end in encoded.targets for place in range(start, end)]
    assert places == list(range(1, len(encoded.ids)))


@pytest.mark.parametrize("with_response", [True, False])
def test_too_long_drops_the_oldest_whole_turns(make_encoder, examples, with_response):
    """A cut inside a turn or the persona; or a prompt that grows past what the LM has positions for."""
    example = max(examples, key=lambda e: len(e.context))
    encoder = make_encoder()
    (whole,) = encoder.encode([example], with_response)
    turns = label_turns(example.context)
    exact = make_encoder(dataset={"max_token_length": len(whole.ids)})
    assert exact.encode([example], with_response)[0].ids.tolist() == whole.ids.tolist()
    dropped = set()
    for limit in range(len(whole.ids) - 1, 0, -7):
        tight = make_encoder(dataset={"max_token_length": limit})
        try:
            (cut,) = tight.encode([example], with_response)
        except UserError:
            break
        assert len(cut.ids) <= limit
        kept = [
            drop
            for drop in range(1, len(turns))
            if _text(tight, cut.ids[1 : cut.query_end])
            == prompt_text(example.persona, turns[drop:], None).body.removesuffix(" R:")
        ]
        assert len(kept) == 1
        assert _text(tight, cut.ids[cut.last_turn : cut.query_end]).lstrip() == turns[-1]
        if with_response:
            assert _target_text(tight, cut) == [f" {example.response}</s>"]
        dropped |= set(kept)
    assert len(turns) - 1 in dropped  # down to the last turn alone


@pytest.mark.parametrize("max_turns", [-1, 0, 1, 3])
def test_what_cannot_fit_names_its_line(make_encoder, examples, max_turns):
    """With few turns left the loop must not drop the partner's last one as well."""
    example = max(examples, key=lambda e: len(e.context))
    last = dataclasses.replace(example, context=example.context[-1:])
    fitting = len(make_encoder().encode([last], with_response=True)[0].ids)
    sections = {"max_token_length": fitting, "max_context_turns": max_turns}
    (cut,) = make_encoder(dataset=sections).encode([example], with_response=True)
    assert len(cut.ids) == fitting
    with pytest.raises(UserError) as caught:
        make_encoder(dataset={**sections, "max_token_length": fitting - 1}).encode(
            [example], with_response=True
        )
    message = str(caught.value)
    assert message.startswith(f"{example.where}: persona and last turn alone are {fitting} tokens")
    assert f"more than the {fitting - 1} that fit" in message


def test_the_tighter_limit_wins(load_tokenizer, make_config):
    """The LM's positions bound the text even where max_token_length is larger."""
    config = make_config(dataset={"max_token_length": 100})
    limits = [reading.make_encoder(load_tokenizer(), config, limit).max_tokens for limit in (None, 50, 200)]
    assert limits == [100, 50, 100]


def test_the_release_cuts_left_in_training_and_right_at_inference(make_encoder, examples):
    """`released_code` must lose the persona in training and the cue at inference, as the release does."""
    example = max(examples, key=lambda e: len(e.context))
    released = {"fidelity": "released_code"}
    long = make_encoder(model=released)
    training, inference = _both(long, example)
    limit = 50
    cut_training, cut_inference = _both(
        make_encoder(model=released, dataset={"max_token_length": limit}), example
    )
    assert cut_training.ids.tolist() == training.ids[-limit:].tolist()
    assert cut_inference.ids.tolist() == inference.ids[:limit].tolist()
    assert _target_text(long, cut_training) == [f" {example.response}</s>"]
    assert cut_inference.query_end == limit
    assert cut_training.query_end == training.query_end - (len(training.ids) - limit)
    assert cut_training.last_turn == training.last_turn - (len(training.ids) - limit)
    assert cut_inference.last_turn == limit  # nothing is left of the last turn
    (short,) = make_encoder(model=released, dataset={"max_token_length": 4}).encode(
        [example], with_response=True
    )
    assert short.targets == ((1, 4),)  # a response longer than the limit: all but the first token


def test_the_released_inference_text_ends_in_a_blank(make_encoder, examples):
    """The release's trailing blank is a token of its own, which training never shows."""
    encoder = make_encoder(model={"fidelity": "released_code"})
    training, inference = _both(encoder, examples[0])
    assert _text(encoder, inference.ids).endswith(" R: ")
    assert not _text(encoder, training.ids).endswith(" ")
    assert inference.ids.tolist() != training.ids[: len(inference.ids)].tolist()


def test_offsets_without_their_blanks_move_no_border(make_encoder, load_tokenizer, examples):
    """RoBERTa's and GPT-2's files may leave the blank out of a token's offsets: no token then holds it."""
    tokenizer = load_tokenizer()
    expected = _both(make_encoder(tokenizer), examples[5])
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    for encoded, whole in zip(_both(make_encoder(tokenizer), examples[5]), expected, strict=True):
        borders = [(found.last_turn, found.query_end, found.targets) for found in (encoded, whole)]
        assert borders[0] == borders[1]


@pytest.mark.parametrize(("max_turns", "kept"), [(-1, 5), (0, 1), (1, 1), (2, 2), (3, 3), (9, 5)])
def test_max_context_turns_keeps_the_newest(make_encoder, examples, max_turns, kept):
    """The newest turns and not the oldest, each with its own speaker's mark."""
    example = next(e for e in examples if len(e.context) == 5)
    encoder = make_encoder(dataset={"max_context_turns": max_turns})
    (encoded,) = encoder.encode([example], with_response=False)
    turns = label_turns(example.context)[-kept:]
    assert _text(encoder, encoded.ids[1:]) == prompt_text(example.persona, turns, None).body
