"""The random states of a process: Python's, NumPy's, torch's and the accelerator's, as tensors."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from deepspeed.accelerator import get_accelerator
from torch import Tensor

from utils.errors import UserError
from utils.tensor_file import Shape

_WORDS = 624  # of the Mersenne twister, of which Python's and NumPy's states are made

State = dict[str, Tensor]


def random_state() -> State:
    """The states of this process by name, on the CPU."""
    _, words, gauss = random.getstate()
    twister: Any = np.random.get_state(legacy=True)
    kind, keys, place, has_gauss, cached = twister
    assert kind == "MT19937"
    state = {
        "python": torch.tensor(words, dtype=torch.int64),  # [625] the last one is the place
        "python_gauss": _optional(gauss is not None, gauss or 0.0),
        "numpy": torch.tensor([*keys.tolist(), place], dtype=torch.int64),  # [625]
        "numpy_gauss": _optional(bool(has_gauss), cached),
        "torch": torch.get_rng_state(),  # [5056] bytes
    }
    if get_accelerator().device_name() != "cpu":
        state["accelerator"] = get_accelerator().get_rng_state().cpu()
    return state


def set_random_state(state: Mapping[str, Tensor], source: str) -> None:
    """Go on with states of `random_state`.

    Args:
        state: by name; an accelerator's may be left out.
        source: where they came from, for the message.

    Raises:
        UserError: one of them is none.
    """
    words, place = state["python"].tolist(), state["numpy"].tolist()
    try:
        has_gauss, gauss = state["python_gauss"].tolist()
        random.setstate((3, tuple(words), gauss if has_gauss else None))
        has_cached, cached = state["numpy_gauss"].tolist()
        keys = np.array(place[:_WORDS], dtype=np.uint32)
        np.random.set_state(("MT19937", keys, place[_WORDS], int(has_cached), cached))
        torch.set_rng_state(state["torch"])
        if "accelerator" in state and get_accelerator().device_name() != "cpu":
            get_accelerator().set_rng_state(state["accelerator"])
    except (ValueError, OverflowError, RuntimeError, IndexError) as error:
        raise UserError(f"{source}: a random state that is none: {error}") from None


def shapes() -> dict[str, Shape]:
    """The shapes of `random_state` of this process."""
    return {name: Shape(value.dtype, tuple(value.shape)) for name, value in random_state().items()}


def _optional(is_there: bool, value: float) -> Tensor:
    """[2]: whether there is a value, and the value."""
    return torch.tensor([float(is_there), value], dtype=torch.float64)
