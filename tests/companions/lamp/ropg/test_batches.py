"""Batches of ROPG: texts in parts, pads, draws and rounds."""

from functools import partial

import numpy as np
import pytest
import torch

from companions.lamp.encoder import vectors_of
from companions.lamp.ropg.batches import PARTS, Collator, Items, Rounds
from companions.lamp.ropg.examples import Examples
from companions.lamp.ropg.model import Retriever
from companions.lamp.ropg.settings import KDSettings
from dataset.loading import load_batches
from dataset.sampler import BatchSampler
from tests.companions.lamp.ropg.questions import batch_of, encoder


def made(counts, seed=0, longest=30):
    """Questions with so many documents each, of random ids and lengths."""
    generator = np.random.default_rng(seed)
    texts = sum(counts) + len(counts)
    lengths = generator.integers(1, longest, texts)
    firsts = np.cumsum([0, *(count + 1 for count in counts)])[:-1]
    ids = generator.integers(5, 400, lengths.sum()).astype(np.int32)
    return Examples(ids, np.cumsum(lengths), firsts, generator.random(texts).astype(np.float32), 0)


@pytest.fixture(scope="module")
def retriever():
    """The tiny encoder, in evaluation mode."""
    return Retriever(encoder(), KDSettings()).eval()


@pytest.mark.parametrize("counts", [(3, 1, 5), (1,), (2, 2), (5,) * 6])
def test_scores_are_those_of_each_text_alone(retriever, counts):
    """A text that stands in for another, or padding that is read, trains on pairs that nobody asked for."""
    examples = made(counts)
    batch = batch_of(examples, 6)
    scores = retriever.score(batch)
    assert scores.shape == batch.mask.shape == batch.utilities.shape == (6, len(counts))
    assert batch.mask.sum(dim=0).tolist() == list(counts)
    assert batch.indices.tolist() == list(range(len(counts)))

    def vector(ids):
        row = torch.tensor(ids.tolist())[None]
        return vectors_of(retriever.lm, row, torch.ones_like(row))[0]

    for column, example in enumerate(examples):
        for row, document in enumerate(example.documents):
            wanted = vector(example.query) @ vector(document)
            torch.testing.assert_close(scores[row, column], wanted, atol=1e-4, rtol=1e-5)
            assert batch.utilities[row, column] == example.utilities[row]


def test_every_batch_has_as_many_parts_and_little_padding():
    """Ranks that run the encoder a different number of times wait for each other for ever at ZeRO stage 3."""
    for counts in ((1,), (2, 2), (16,) * 8):
        batch = batch_of(made(counts, longest=200), 16)
        assert len(batch.texts) == PARTS
    cells = sum(mask.numel() for _, mask in batch.texts)
    assert sum(mask.sum() for _, mask in batch.texts) > 0.85 * cells  # in one part it is half


def test_gradients_of_pads(retriever):
    """A short profile beside a long one must learn as it would alone."""
    examples = made((4, 2))
    wide, narrow = batch_of(examples, 9), batch_of(examples, 4)
    gradients = []
    for batch in (wide, narrow):
        retriever.zero_grad()
        retriever(batch).total.backward()
        parameters = [parameter for parameter in retriever.parameters() if parameter.requires_grad]
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in parameters]))
    torch.testing.assert_close(gradients[0], gradients[1])


def test_moving_a_batch_keeps_it(retriever):
    """A tensor that stays behind fails on a GPU only."""
    batch = batch_of(made((2, 1)), 3)
    moved = batch.to(torch.device("meta"))
    assert moved.num_examples == 2
    tensors = [value for value in vars(moved).values() if torch.is_tensor(value)]
    assert len(tensors) == 6
    assert all(tensor.is_meta for tensor in [*tensors, *(part for pair in moved.texts for part in pair)])


def draws_by_example(world_size, batch_size, rounds=2, num_workers=0):
    """The draws of every example, pass by pass, over all ranks."""
    examples, found = made((2,) * 11), {}
    for rank in range(world_size):
        items = Items(examples, seed=3)
        passes = BatchSampler(
            examples.tokens().tolist(), range(11), batch_size, rank=rank, world_size=world_size, seed=3
        )
        sampler = Rounds(passes, None, 11)
        loader = load_batches(items, Collator(2, 0), num_workers, sampler)
        for epoch in range(rounds):
            sampler.set_epoch(epoch)
            for batch in loader:
                for index, draw in zip(batch.indices.tolist(), batch.draws.tolist(), strict=True):
                    found.setdefault((epoch, index), set()).add(draw)
    return found


def test_draws_depend_on_pass_and_example_alone():
    """Draws by a rank's own generator would make another training of every number of ranks or workers."""
    one = draws_by_example(1, 4)
    assert len(one) == 22
    assert all(len(draws) == 1 for draws in one.values())
    assert len({draw for draws in one.values() for draw in draws}) == 22  # new in every pass
    assert draws_by_example(2, 3) == one
    assert draws_by_example(1, 5, num_workers=2) == one
    examples = made((2,))
    assert Items(examples, seed=3)[0].draw != Items(examples, seed=4)[0].draw


def test_rounds_go_on_through_the_passes():
    """A round that starts anew would train on the first questions of the file alone."""
    passes = BatchSampler([1] * 10, range(10), batch_size=4, seed=1)
    rounds = Rounds(passes, 5, 10)
    found = []
    for epoch in range(3):
        rounds.set_epoch(epoch)
        found.append(list(rounds))
        assert len(found[-1]) == len(rounds) == 5
    numbers = [number for batches in found for batch in batches for number in batch]
    assert sorted(numbers) == list(range(50))  # 15 batches are 5 passes
    orders = [[number % 10 for number in numbers if number // 10 == turn] for turn in range(5)]
    assert len({tuple(order) for order in orders}) == 5
    rounds.set_epoch(1)
    assert list(rounds) == found[1]


@pytest.mark.parametrize("batches", [None, 5])
def test_a_resumed_round_goes_on_where_it_was(batches):
    """A round that begins anew trains twice on its first questions, and outlasts the learning rate's schedule."""
    rounds = Rounds(BatchSampler([1] * 10, range(10), batch_size=4, seed=1), batches, 10)
    for epoch in (0, 2):
        rounds.set_epoch(epoch)
        whole = list(rounds)
        for steps in range(len(whole) + 1):
            rounds.set_epoch(epoch, [(1, steps)])
            assert (list(rounds), len(rounds)) == (whole[steps:], len(whole) - steps)


def test_a_pass_that_other_ranks_have_begun():
    """A pass of fewer batches than the ranks before had is taken for one that is done."""
    sampler = partial(BatchSampler, [1] * 10, range(10), batch_size=1, seed=1)
    begun = Rounds(sampler(), None, 10)
    begun.set_epoch(1)
    seen = [number for batch in list(begun)[:6] for number in batch]
    for rank in (0, 1):
        rest = Rounds(sampler(rank=rank, world_size=2), None, 10)
        rest.set_epoch(1, [(1, 6)])
        assert len(rest) == 2
        seen += [number for batch in rest for number in batch]
    assert sorted(seen) == list(range(10, 20))
