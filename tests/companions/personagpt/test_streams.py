"""Two streams in one step: which examples a batch has, in which order, on which rank."""

from itertools import islice

import pytest
import torch

from companions.personagpt.streams import (
    StreamCollator,
    StreamDataset,
    StreamSampler,
    TwoStreams,
    joined,
    recycled,
)
from dataset.batch import Collator
from dataset.loading import Ranks, load_batches, make_sampler
from tests.companions.personagpt.training import PAD, FixedOrder, encoded, golden_config

OLD = encoded([([9] * (3 + number), [7, number, PAD]) for number in range(11)])
NEW = encoded([([8] * 4, [6, 100 + number, PAD]) for number in range(3)])


def test_new_examples_come_again_in_another_order():
    """An order that repeats itself pairs the same new examples with each other in every update."""
    endless = recycled(5, seed=1)
    passes = [list(islice(endless(0), 5 * part, 5 * part + 5)) for part in range(6)]
    assert all(sorted(part) == list(range(5)) for part in passes)
    assert len({tuple(part) for part in passes}) > 3
    assert list(islice(endless(0), 30)) == [number for part in passes for number in part]
    assert list(islice(endless(1), 30)) != list(islice(endless(0), 30))
    assert list(islice(recycled(5, seed=2)(0), 30)) != list(islice(endless(0), 30))
    assert list(islice(recycled(3, 1, shuffle=False)(0), 7)) == [0, 1, 2, 0, 1, 2, 0]


def test_ranks_take_turns_with_the_new_examples():
    """Ranks with the same new examples learn each of them twice as fast, and others not at all."""
    alone = list(islice(recycled(5, 1)(0), 20))
    ranks = [list(islice(recycled(5, 1, Ranks(rank, 2))(0), 10)) for rank in (0, 1)]
    assert [number for pair in zip(*ranks, strict=True) for number in pair] == alone


@pytest.mark.parametrize("size", [1, 2])
def test_one_pass_over_the_old_examples(size):
    """A pass that ends with the new examples, which are few, would leave most of the old ones unseen."""
    training = golden_config(training={"batch_size": 4, "rows": "example", "seed": 3}).training
    seen = []
    for rank in range(size):
        ranks = Ranks(rank, size)
        old = make_sampler(OLD, training, True, ranks)
        sampler = StreamSampler(old, len(OLD), recycled(len(NEW), 3, ranks))
        dataset = StreamDataset(joined(OLD, NEW), len(OLD))
        collate = StreamCollator(Collator(PAD).train, len(OLD)).train
        loader = load_batches(dataset, collate, training.num_workers, sampler)
        sampler.set_epoch(1)
        batches = list(loader)
        assert len(batches) == len(sampler) == len(old)
        for batch in batches:
            assert batch.old.num_examples == batch.new.num_examples == batch.num_examples / 2
        seen += [number for batch in batches for number in batch.indices.tolist()]
        assert len(loader.dataset) == 2 * len(OLD)
    assert sorted(number for number in seen if number < len(OLD)) == list(range(len(OLD)))
    new = [number - len(OLD) for number in seen if number >= len(OLD)]
    assert max(new.count(number) for number in range(3)) - min(new.count(number) for number in range(3)) <= 1


def test_a_resumed_pass_goes_on_where_it_was():
    """New examples that begin anew with every resumed run are those of the start of the order, again and again."""
    training = golden_config(training={"batch_size": 2, "rows": "example", "seed": 3}).training

    def left(done=(), rank=0, size=1):
        ranks = Ranks(rank, size)
        sampler = StreamSampler(
            make_sampler(OLD, training, True, ranks), len(OLD), recycled(len(NEW), 3, ranks)
        )
        sampler.set_epoch(1, done)
        return list(sampler)

    whole = left()
    for steps in range(len(whole) + 1):
        assert left([(1, steps)]) == whole[steps:]
    # alone after two ranks: every old example comes once, and new ones go on where the two of them were
    both = [number for rank in (0, 1) for batch in left(rank=rank, size=2)[:2] for number in batch]
    alone = [number for batch in left([(2, 2)]) for number in batch]
    old = [number for number in both + alone if number < len(OLD)]
    assert sorted(old) == list(range(len(OLD)))
    new = [number for batch in whole for number in batch if number >= len(OLD)]
    assert sorted(number for number in both if number >= len(OLD)) == sorted(new[: len(both) // 2])
    assert [number for number in alone if number >= len(OLD)] == new[len(both) // 2 :]


def test_the_order_is_a_function_of_seed_and_epoch():
    """A run could not be repeated, nor could the ranks agree."""

    def batches(epoch):
        sampler = StreamSampler(FixedOrder([[[0, 1], [2]]] * 3), len(OLD), recycled(len(NEW), 5))
        sampler.set_epoch(epoch)
        return list(sampler)

    assert batches(1) == batches(1)
    assert [batch[: len(batch) // 2] for batch in batches(2)] == [[0, 1], [2]]


def test_each_stream_keeps_its_own_examples():
    """An action code that is counted as a dialogue would be hidden in the loss of the other."""
    examples = joined(OLD, NEW)
    assert [example.index for example in examples] == list(range(14))
    assert len({example.dialogue for example in examples}) == 14
    collate = StreamCollator(Collator(PAD).train, len(OLD)).train
    batch = collate([examples[12], examples[2], examples[0]])
    assert batch.old.target_ids.tolist() == [7, 2, PAD, 7, 0, PAD]
    assert batch.new.target_ids.tolist() == [6, 101, PAD]
    assert batch.indices.tolist() == [2, 0, 12]
    alone = collate(examples[:2])
    assert alone.new is None
    assert list(alone.parts()) == ["old"]
    assert alone.num_examples == 2
    assert collate(examples[12:]).old is None
    moved = batch.to("cpu")
    assert isinstance(moved, TwoStreams)
    assert torch.equal(moved.new.input_ids, batch.new.input_ids)
