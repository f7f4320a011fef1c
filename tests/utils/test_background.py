"""Values that are computed on a thread."""

import threading

import pytest

from utils.background import Later
from utils.errors import UserError


def test_a_value_is_computed_beside_the_caller():
    """A function that runs when its value is asked for, or before the constructor returns, keeps everybody waiting."""
    go_on, started = threading.Event(), threading.Event()

    def value() -> int:
        started.set()
        assert go_on.wait(60)
        return 7

    later = Later(value)
    assert started.wait(60)
    go_on.set()
    assert (later.result(), later.result()) == (7, 7)


def test_an_error_comes_with_the_value():
    """Lost on its thread, an error would leave a run without its metadata, or waiting for ever."""

    def fail() -> None:
        raise UserError("the disk is gone")

    later = Later(fail)
    for _ in range(2):
        with pytest.raises(UserError, match="the disk is gone"):
            later.result()
