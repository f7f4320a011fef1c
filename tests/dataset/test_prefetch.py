"""The next batch is made beside the step: the same batches in the same order, one ahead."""

import threading

import pytest
import torch

from dataset.prefetch import PrefetchingLoader

WAIT = 60  # seconds; only a failing test waits so long
BATCHES = [[0, 1], [5, 4], [2], [3, 3]]


def loader_of(collate, workers=0):
    """A loader over six numbers, with a random state of its own as dataset/loading.py gives it."""
    return PrefetchingLoader(
        range(6), batch_sampler=BATCHES, collate_fn=collate, num_workers=workers, generator=torch.Generator()
    )


def threads():
    """How many threads make batches."""
    return sum(thread.name.startswith("batches") for thread in threading.enumerate())


@pytest.mark.parametrize("workers", [0, 1])
def test_the_batches_are_the_data_loaders(workers):
    """A batch that is lost, doubled or moved trains on other data than the sampler chose, in every pass."""
    loader = loader_of(torch.tensor, workers=workers)
    state = torch.get_rng_state()
    for _ in range(2):
        assert [batch.tolist() for batch in loader] == BATCHES
    assert len(loader) == len(BATCHES)
    assert torch.equal(state, torch.get_rng_state())
    assert threads() == 0


def test_the_next_batch_is_made_during_the_step():
    """A batch that is made only when it is asked for adds its time to every step; more ahead fill the memory."""
    made = [threading.Event() for _ in BATCHES]
    order = iter(made)

    def collate(numbers):
        next(order).set()
        return numbers

    batches = iter(loader_of(collate))
    for step, batch in enumerate(batches):
        assert batch == BATCHES[step]
        if step + 1 < len(BATCHES):
            assert made[step + 1].wait(WAIT)
        assert not any(event.is_set() for event in made[step + 2 :])


def test_batches_are_made_in_another_thread():
    """What is made in the training thread holds up the step, whoever is asked for it."""
    assert threading.get_ident() not in list(loader_of(lambda numbers: threading.get_ident()))


def test_an_error_comes_in_the_place_of_its_batch():
    """An error that is swallowed cuts the epoch short; one that comes early loses the step before it."""

    def collate(numbers):
        if numbers == BATCHES[2]:
            raise ValueError("a broken example")
        return numbers

    seen = []
    with pytest.raises(ValueError, match="a broken example"):
        seen.extend(loader_of(collate))
    assert seen == BATCHES[:2]
    assert threads() == 0


def test_a_pass_that_is_left_ends_its_thread():
    """Threads of passes that were broken off would go on making batches, and hold what they made."""
    batches = iter(loader_of(list))
    next(batches)
    assert threads() == 1
    batches.close()
    assert threads() == 0
