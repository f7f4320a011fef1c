"""All random states of a process go on where they were."""

import random

import numpy as np
import pytest
import torch

from trainer.random_state import random_state, set_random_state
from utils.errors import UserError


def _draws():
    # a normal draw of Python or NumPy may be the second of a pair, which was made with the first one
    return [
        random.gauss(0, 1),
        random.random(),
        np.random.standard_normal(),
        np.random.random(),
        *torch.randn(3).tolist(),
    ]


@pytest.fixture(autouse=True)
def _as_before():
    before = random_state()
    yield
    set_random_state(before, "test")


@pytest.mark.parametrize("before", [0, 1], ids=["whole pairs", "half a pair"])
def test_every_generator_goes_on(before):
    """A module that draws from Python or NumPy gets other draws after a stop, and the run is another one."""
    for _ in range(before):
        random.gauss(0, 1), np.random.standard_normal()
    state = random_state()
    wanted = _draws()
    _draws()
    set_random_state(state, "test")
    assert _draws() == wanted


def test_a_state_that_is_none_is_one_line():
    """A damaged checkpoint ends in a traceback."""
    state = random_state()
    state["numpy"] = state["numpy"] - 2**40
    with pytest.raises(UserError, match="x.safetensors: a random state that is none"):
        set_random_state(state, "x.safetensors")
