"""Batches: both kinds of rows ask the LM the same questions, and padding is never one of them."""

import pickle

import numpy as np
import pytest
import torch

from dataset.batch import Collator, assign_rows
from dataset.encoding import EncodedExample
from models.lm.language_model import load_tokenizer
from models.reading import make_collator, make_encoder

PAD = 99


def _example(ids, start, dialogue=0, index=0, query_end=2, persona="p"):
    """An encoded example whose target runs from `start` to the end."""
    ids = np.array(ids, dtype=np.int32)
    return EncodedExample(ids, query_end, ((start, len(ids)),), persona, dialogue, index)


SHORT = _example([1, 5, 6, 7, 2], 3, index=3)  # eos is 2
LONG = _example([1, 5, 6, 7, 8, 9, 4, 2], 6, index=4)
OTHER = _example([1, 5, 3, 2], 2, dialogue=1, index=9)


@pytest.fixture
def encode(make_config, examples):
    """encode(with_response, **sections): the encoder, the configuration, and the encoded small file."""

    def encode(with_response=True, **sections):
        config = make_config(**sections)
        encoder = make_encoder(load_tokenizer(config.model), config)
        return encoder, config, encoder.encode(examples, with_response)

    return encode


def _questions(batch):
    """Per example: the tokens to predict, each with the ids before it."""
    asked = [[] for _ in range(batch.num_examples)]
    for row, position, token, example in zip(
        batch.target_rows.tolist(),
        batch.target_positions.tolist(),
        batch.target_ids.tolist(),
        batch.target_examples.tolist(),
        strict=True,
    ):
        asked[example].append((token, tuple(batch.input_ids[row, : position + 1].tolist())))
    return asked


def test_a_batch_by_hand():
    """Targets one place too far to the right are predicted from themselves."""
    batch = Collator(pad_id=PAD).train([SHORT, LONG, OTHER])
    assert batch.input_ids.tolist() == [
        [1, 5, 6, 7, 8, 9, 4],
        [1, 5, 6, 7, PAD, PAD, PAD],
        [1, 5, 3, PAD, PAD, PAD, PAD],
    ]
    assert batch.target_rows.tolist() == [1, 1, 0, 0, 2, 2]
    assert batch.target_positions.tolist() == [2, 3, 5, 6, 1, 2]
    assert batch.target_ids.tolist() == [7, 2, 4, 2, 3, 2]
    assert batch.target_examples.tolist() == [0, 0, 1, 1, 2, 2]
    assert batch.indices.tolist() == [3, 4, 9]
    assert batch.pair_labels.tolist() == []
    assert batch.query.ids.tolist() == [[1, 5], [1, 5], [1, 5]]
    assert batch.query.mask.all()
    kinds = {
        name: getattr(batch, name).dtype for name in ("input_ids", "target_ids", "pair_labels", "indices")
    }
    assert kinds == {
        "input_ids": torch.int64,
        "target_ids": torch.int64,
        "pair_labels": torch.float32,
        "indices": torch.int64,
    }


def test_a_shared_row_by_hand():
    """The shorter text ends in eos, where the longer row continues: the target is eos all the same."""
    batch = Collator(pad_id=PAD, share_rows=True).train([SHORT, LONG, OTHER])
    assert batch.input_ids.tolist() == [[1, 5, 6, 7, 8, 9, 4], [1, 5, 3, PAD, PAD, PAD, PAD]]
    assert batch.target_rows.tolist() == [0, 0, 0, 0, 1, 1]
    assert batch.target_ids.tolist() == [7, 2, 4, 2, 3, 2]
    assert batch.num_examples == 3


@pytest.mark.parametrize("size", [1, 7, 32])
def test_both_kinds_of_rows_ask_the_same(encode, size):
    """`rows: dialogue` is a saving, not another training: token for token the same predictions."""
    encoder, config, encoded = encode()
    shared = Collator(pad_id=encoder.pad, share_rows=True)
    plain = make_collator(encoder, config)
    rows = 0
    for start in range(0, len(encoded), size):
        part = encoded[start : start + size]
        one, other = plain.train(part), shared.train(part)
        assert _questions(one) == _questions(other)
        assert torch.equal(one.target_examples, other.target_examples)
        assert torch.equal(one.indices, other.indices)
        assert torch.equal(one.query.ids, other.query.ids)
        assert one.input_ids.shape[0] == len(part)
        rows += other.input_ids.shape[0]
    dialogues = len({example.dialogue for example in encoded})
    assert rows == len(encoded) if size == 1 else dialogues <= rows < len(encoded) / 2


def test_each_example_is_asked_its_own_response(encode):
    """What a batch asks, put together again, is the example's whole text."""
    encoder, config, encoded = encode()
    for example, asked in zip(
        encoded, _questions(make_collator(encoder, config).train(encoded)), strict=True
    ):
        token, before = asked[-1]
        assert [*before, token] == example.ids.tolist()
        assert len(asked) == example.targets[0][1] - example.targets[0][0]


@pytest.mark.parametrize(
    ("other", "shares"),
    [
        (_example([1, 5, 6, 7, 2], 3), True),
        (_example([1, 5, 6, 7, 2], 3, dialogue=1), False),
        (_example([1, 5, 6, 8, 2], 3), False),
        (_example([1, 0, 6, 7, 2], 3), False),
        (LONG, True),
    ],
    ids=["prefix", "other dialogue", "other end", "other start", "equal"],
)
def test_only_a_prefix_of_the_same_dialogue_shares(other, shares):
    """A row that is shared with another text predicts a response from the wrong context."""
    examples = [other, LONG]
    row_of_text, text_of_row = assign_rows(
        [one.ids[:-1] for one in examples], [one.dialogue for one in examples]
    )
    assert (row_of_text[0] == row_of_text[1]) == shares
    assert len(text_of_row) == (1 if shares else 2)
    assert len(text_of_row) == len(set(row_of_text))
    assert [row_of_text[text] for text in text_of_row] == list(range(len(text_of_row)))


def test_rows_are_not_shared_unless_asked():
    """A row that two examples share by default would change the results of every run that asked for `rows: example`."""
    assert assign_rows([one.ids[:-1] for one in (SHORT, LONG, SHORT)], range(3))[0] == [1, 0, 2]


def test_the_query_ends_before_the_response(encode):
    """A retriever that reads the response has nothing to read at decoding."""
    encoder, config, encoded = encode()
    query = make_collator(encoder, config).train(encoded[:6]).query
    assert query.ids.shape == query.mask.shape
    for row, example in enumerate(encoded[:6]):
        assert query.ids[row][query.mask[row]].tolist() == example.ids[: example.query_end].tolist()
        assert query.mask[row].sum() == example.query_end < example.targets[0][0]


def test_the_query_of_an_example_is_the_same_in_both_batches(encode):
    """The chosen prompt must depend neither on the batch nor on training or decoding."""
    encoder, config, training = encode()
    _, _, inference = encode(with_response=False)
    collator = make_collator(encoder, config)
    one, other = collator.train(training).query, collator.inference(inference).query
    assert torch.equal(one.ids, other.ids)
    assert torch.equal(one.mask, other.mask)


def test_the_released_query_pads_as_the_release(encode):
    """The released retriever reads the padding: another width or side gives other scores than the authors'."""
    sections = {"model": {"fidelity": "released_code"}, "dataset": {"max_token_length": 200}}
    encoder, config, training = encode(**sections)
    collator = make_collator(encoder, config)
    some = [example for example in training if len(example.ids) < 150][:3]
    query = collator.train(some).query
    assert query.ids.shape == (3, 200)
    assert query.mask.all()
    for row, example in enumerate(some):
        length = len(example.ids)
        assert query.ids[row].tolist() == example.ids.tolist() + [encoder.pad] * (200 - length)
    _, _, inference = encode(with_response=False, **sections)
    query = collator.inference(inference[:3]).query
    width = max(len(example.ids) for example in inference[:3])
    assert query.ids.shape == (3, width)
    assert query.mask.all()
    for row, example in enumerate(inference[:3]):
        assert query.ids[row].tolist() == [encoder.pad] * (width - len(example.ids)) + example.ids.tolist()


@pytest.mark.parametrize("released", [False, True])
def test_pad_that_is_eos(encode, released):
    """A target masked by the pad id loses its eos where both are one token: the LM never learns to end a reply.

    `released_code` does just that, as the release does.
    """
    encoder, config, encoded = encode(model={"fidelity": "released_code" if released else "paper"})
    encoder.pad = encoder.eos  # as with a tokenizer that has no pad token
    batch = make_collator(encoder, config).train(encoded[:4])
    assert (batch.target_ids == encoder.eos).sum() == (0 if released else 4)
    assert batch.target_examples.unique().tolist() == [0, 1, 2, 3]


def test_inference_batches_pad_left(encode):
    """Generation continues at the right end: padding there would stand between prompt and response."""
    encoder, config, encoded = encode(with_response=False)
    batch = make_collator(encoder, config, decoding=True).inference(encoded[:5])
    assert batch.indices.tolist() == [0, 1, 2, 3, 4]
    for row, example in enumerate(encoded[:5]):
        length = len(example.ids)
        assert batch.input_ids[row, -length:].tolist() == example.ids.tolist()
        assert (batch.input_ids[row, :-length] == encoder.pad).all()
        assert batch.attention_mask[row].tolist() == [0] * (batch.input_ids.shape[1] - length) + [1] * length


def test_pairs_come_in_the_order_of_the_loss(encode):
    """A label on another pair pulls apart what should be close; one that no loss asks for costs a BLEU per pair."""
    encoder, config, encoded = encode()
    batch = make_collator(encoder, config).train([encoded[0], encoded[1], encoded[-1]])
    assert batch.pair_labels.tolist() == [1.0, -1.0, -1.0]
    assert make_collator(encoder, config).train(encoded[:1]).pair_labels.tolist() == []
    assert make_collator(encoder, config, decoding=True).train(encoded[:3]).pair_labels.tolist() == []
    for off in ({"contrastive": False}, {"contrastive_metric": None}, {"only_nll": True}):
        encoder, config, encoded = encode(training=off)
        assert make_collator(encoder, config).train(encoded[:3]).pair_labels.tolist() == []


def test_decoding_never_shares_rows(encode):
    """A row has one prompt in front: examples that share it would be decoded after the prompt chosen for another."""
    encoder, config, _ = encode(training={"rows": "dialogue"})
    assert make_collator(encoder, config).share_rows
    assert not make_collator(encoder, config, decoding=True).share_rows


def test_batches_move_whole(encode):
    """A part that stays behind on the host fails in the middle of a step."""
    encoder, config, encoded = encode()
    collator = make_collator(encoder, config)
    batch, decoding = collator.train(encoded[:3]).to("meta"), collator.inference(encoded[:3]).to("meta")
    for item in (batch, batch.query, decoding, decoding.query):
        tensors = [getattr(item, name) for name in item.__slots__ if name != "query"]
        assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert batch.num_examples == 3


def test_a_collator_travels_to_worker_processes(encode):
    """`num_workers` > 0 sends it there by pickle where processes are spawned."""
    encoder, config, encoded = encode()
    collator = make_collator(encoder, config)
    again = pickle.loads(pickle.dumps(collator))
    assert torch.equal(again.train(encoded[:3]).input_ids, collator.train(encoded[:3]).input_ids)
    assert again.train(encoded[:3]).pair_labels.tolist() == collator.train(encoded[:3]).pair_labels.tolist()
