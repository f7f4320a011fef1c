"""TF32 is stated, not left to what a library had set before."""

import pytest
import torch

from utils.precision import describe_precision, set_tf32

CUDA = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _as_before():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(("allowed", "words"), [(False, "float32, TF32 off"), (True, "float32, TF32 on")])
def test_tf32_is_set_and_said(monkeypatch, allowed, words):
    """A float32 run with 3 digits, which nothing says, could not be told from one with 7."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    set_tf32(not allowed)
    set_tf32(allowed)
    assert torch.backends.cuda.matmul.allow_tf32 == allowed
    assert describe_precision(32, CUDA) == words


def test_other_devices_have_no_tf32(monkeypatch):
    """The same switch lets a CPU round to bf16."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    set_tf32(True)
    assert torch.get_float32_matmul_precision() == "highest"
    assert describe_precision("bf16", torch.device("cpu")) == "bfloat16"
