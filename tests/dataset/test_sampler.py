"""The order of the examples: complete, repeatable, the same number of steps on every rank."""

import math

import numpy as np
import pytest

from dataset.loading import Ranks
from dataset.sampler import BatchSampler
from models.lm.language_model import load_tokenizer
from models.reading import make_loader
from utils.errors import UserError

LENGTHS = np.random.default_rng(0).integers(10, 400, 1000)
DIALOGUES = np.arange(1000) // 8


def _epoch(count=1000, ranks=1, epoch=0, **settings):
    """The batches of each rank."""
    settings = {"batch_size": 4, "seed": 7} | settings
    samplers = [
        BatchSampler(LENGTHS[:count], DIALOGUES[:count], rank=rank, world_size=ranks, **settings)
        for rank in range(ranks)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    return samplers, [list(sampler) for sampler in samplers]


def _flat(batches):
    return [number for batch in batches for number in batch]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(
    ("count", "ranks", "size"), [(16, 1, 4), (17, 1, 4), (1, 1, 4), (24, 3, 4), (22, 3, 4), (1000, 4, 8)]
)
def test_every_example_comes_once(count, ranks, size, shuffle, whole):
    """An example that is left out, or counted on two ranks, shifts the loss and the metrics."""
    samplers, batches = _epoch(count, ranks, batch_size=size, shuffle=shuffle, whole_dialogues=whole)
    assert sorted(_flat(_flat(batches))) == list(range(count))
    assert {len(rank) for rank in batches} == {len(samplers[0])}
    assert all(0 < len(batch) <= size for rank in batches for batch in rank)


@pytest.mark.parametrize(("count", "ranks"), [(25, 3), (26, 3), (2, 3)])
def test_ranks_never_wait_for_each_other(count, ranks):
    """A rank with one batch less leaves the others hanging in a collective for ever.

    Only when the last global batch is smaller than the number of ranks may an example come twice.
    """
    samplers, batches = _epoch(count, ranks)
    assert {len(rank) for rank in batches} == {len(samplers[0])}
    assert all(len(batch) > 0 for rank in batches for batch in rank)
    numbers = _flat(_flat(batches))
    assert set(numbers) == set(range(count))
    assert len(numbers) - count < ranks


@pytest.mark.parametrize("whole", [False, True])
def test_the_order_follows_seed_and_epoch(whole):
    """A run that cannot be repeated; or, as in the release, the same order in every epoch."""
    orders = {
        (seed, epoch): tuple(_flat(_epoch(200, seed=seed, epoch=epoch, whole_dialogues=whole)[1][0]))
        for seed in (1, 2)
        for epoch in (0, 1)
    }
    assert len(set(orders.values())) == 4
    for (seed, epoch), order in orders.items():
        assert tuple(_flat(_epoch(200, seed=seed, epoch=epoch, whole_dialogues=whole)[1][0])) == order


def test_without_shuffling_every_epoch_is_the_same():
    """The validation loss must not depend on the seed or the epoch."""
    first = _epoch(200, shuffle=False, seed=1, epoch=0)[1]
    assert _epoch(200, shuffle=False, seed=2, epoch=5)[1] == first


@pytest.mark.parametrize("epoch", range(4))
def test_the_short_batch_comes_last(epoch):
    """A short batch in the middle weighs its few examples like a whole step, at another place each epoch."""
    _, batches = _epoch(22, ranks=2, epoch=epoch)
    assert [[len(batch) for batch in rank] for rank in batches] == [[4, 4, 3], [4, 4, 3]]


def _padded(batches):
    """Tokens that the LM runs over, padding included."""
    return sum(len(batch) * max(LENGTHS[number] for number in batch) for batch in batches)


def test_like_lengths_together_save_padding():
    """Half of the time of a step can go into padding."""
    plain = np.random.default_rng(7).permutation(1000)
    shuffled = _padded(np.split(plain, range(4, 1000, 4)))
    grouped = _padded(_epoch()[1][0])
    real = int(LENGTHS.sum())
    assert grouped - real < 0.25 * (shuffled - real)


def test_batches_do_not_come_in_the_order_of_their_lengths():
    """Sorted by length, training would see the short texts first and the long ones last."""
    longest = [max(LENGTHS[number] for number in batch) for batch in _epoch(batch_size=20)[1][0]]
    assert abs(np.corrcoef(np.arange(len(longest)), longest)[0, 1]) < 0.3


@pytest.mark.parametrize("ranks", [1, 2])
def test_whole_dialogues_keep_neighbours(ranks):
    """`rows: dialogue` saves nothing when the turns of a dialogue lie in different batches."""
    _, batches = _epoch(ranks=ranks, batch_size=16, whole_dialogues=True)
    for batch in _flat(batches):
        numbers = np.array(batch)
        assert len(set(DIALOGUES[numbers])) <= 3
        for dialogue in set(DIALOGUES[numbers]):
            assert (np.diff(numbers[DIALOGUES[numbers] == dialogue]) == 1).all()
    _, scattered = _epoch(ranks=ranks, batch_size=16)
    assert max(len(set(DIALOGUES[batch])) for batch in _flat(scattered)) > 8


def test_batch_sizes_count_examples():
    """`batch_size` is examples per rank, with rows of dialogues too: else --batch means two things."""
    _, batches = _epoch(1000, ranks=2, batch_size=8, whole_dialogues=True)
    sizes = [len(batch) for rank in batches for batch in rank]
    assert sizes.count(8) == 124
    assert sum(sizes) == 1000


def test_the_loader_gives_every_example_once(make_config, examples):
    """An example lost between the file and the batches is never trained on, and no figure shows it."""
    config = make_config(training={"batch_size": 8})
    loader = make_loader(config.dataset.train, load_tokenizer(config.model), config, train=True)
    batches = list(loader)
    assert len(batches) == len(loader) == math.ceil(len(examples) / 8)
    assert sorted(number for batch in batches for number in batch.indices.tolist()) == list(
        range(len(examples))
    )


def test_training_ratio_and_only_longest(make_config):
    """The share is of dialogues, from the start of the file, and of the training data only."""
    config = make_config(training={"training_ratio": 0.5, "only_longest": True, "batch_size": 2})
    tokenizer = load_tokenizer(config.model)
    assert (
        sum(batch.num_examples for batch in make_loader(config.dataset.train, tokenizer, config, True)) == 6
    )
    assert (
        sum(batch.num_examples for batch in make_loader(config.dataset.valid, tokenizer, config, False)) == 4
    )


def test_fewer_examples_than_ranks_is_an_error(make_config):
    """A rank without an example would train on another's, or on nothing."""
    config = make_config(training={"training_ratio": 0.01, "only_longest": True})
    tokenizer = load_tokenizer(config.model)
    with pytest.raises(UserError, match=r"train\.txt: 1 example\(s\) are fewer than the 2 ranks"):
        make_loader(config.dataset.train, tokenizer, config, train=True, ranks=Ranks(0, 2))


@pytest.mark.parametrize("whole", [False, True])
def test_an_epoch_goes_on_where_it_stopped(whole):
    """A resumed epoch would see some examples twice and others not at all."""
    samplers, (batches, _) = _epoch(100, ranks=2, epoch=3, whole_dialogues=whole)
    samplers[0].set_epoch(3, done=[(2, 5)])
    assert list(samplers[0]) == batches[5:]
    assert len(samplers[0]) == len(batches) - 5
