"""What tests of writing share: calls of the system that fail."""

import errno
import os

import pytest

STEPS = ("replace", "unlink", "fsync", "rename")


@pytest.fixture
def break_at(monkeypatch):
    """break_at(number, before): let one call of the system fail, the number-th from now; `before` sees each."""

    def arm(number, before=lambda: None):
        calls = []

        def wrap(step):
            real = getattr(os, step)

            def call(*arguments, **options):
                before()
                calls.append(step)
                if len(calls) == number:
                    raise OSError(errno.EIO, "Input/output error")
                return real(*arguments, **options)

            monkeypatch.setattr(os, step, call)

        for step in STEPS:
            wrap(step)
        return calls

    yield arm
    monkeypatch.undo()
