"""The chunked cross-entropy equals the plain one, in values and in every gradient."""

import pytest
import torch
import torch.nn.functional as F

from models import linear_cross_entropy as module
from models.linear_cross_entropy import linear_cross_entropy

ROWS, WIDTH, VOCAB = 11, 6, 13
TOLERANCE = {torch.float32: {"atol": 1e-6, "rtol": 1e-5}, torch.bfloat16: {"atol": 0.03, "rtol": 0.03}}


@pytest.fixture(params=[1, 4, 1000], ids=lambda rows: f"chunks_of_{rows}")
def chunk_rows(request, monkeypatch):
    """Rows of a chunk: one, a number that does not divide the input, more than there are."""
    monkeypatch.setattr(module, "CHUNK_BYTES", request.param * 4 * VOCAB)
    return request.param


def inputs(dtype, trainable):
    """Hidden states [M, H], head [Vocab, H] and targets [M], the same each time."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(ROWS, WIDTH, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(VOCAB, WIDTH, generator=generator).to(dtype).requires_grad_(trainable)
    return hidden, weight, torch.randint(VOCAB, (ROWS,), generator=generator)


@pytest.mark.parametrize("trainable", [False, True], ids=["frozen_head", "trained_head"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bf16"])
def test_values_and_gradients_are_those_of_the_plain_formula(chunk_rows, dtype, trainable):
    """The gradient is written by hand: a wrong chunk border or a lost row weight trains in silence.

    The upstream weights differ by row, as token losses are weighted by annealing and by means per example.
    """
    upstream = torch.linspace(-1, 2, ROWS)
    hidden, weight, targets = inputs(dtype, trainable)
    losses = linear_cross_entropy(hidden, weight, targets)
    (losses * upstream).sum().backward()
    plain_hidden, plain_weight, _ = inputs(dtype, trainable)
    plain = F.cross_entropy(F.linear(plain_hidden, plain_weight).float(), targets, reduction="none")
    (plain * upstream).sum().backward()

    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, plain, **TOLERANCE[dtype])
    torch.testing.assert_close(hidden.grad, plain_hidden.grad, **TOLERANCE[dtype])
    if trainable:
        torch.testing.assert_close(weight.grad, plain_weight.grad, **TOLERANCE[dtype])
    else:
        assert weight.grad is None


def test_weights_of_the_losses_are_learnt_from_too():
    """A weight that depends on a parameter gets the losses themselves as its gradient."""
    hidden, weight, targets = inputs(torch.float32, False)
    factors = torch.ones(ROWS, requires_grad=True)
    losses = linear_cross_entropy(hidden, weight, targets)
    (losses * factors).sum().backward()
    torch.testing.assert_close(factors.grad, losses.detach())


@pytest.mark.parametrize("trainable", [False, True], ids=["frozen_head", "trained_head"])
def test_no_row_gives_no_loss(trainable):
    """A batch without targets must be empty, not a crash in the joining of no chunks."""
    hidden, weight, targets = inputs(torch.float32, trainable)
    losses = linear_cross_entropy(hidden[:0], weight, targets[:0])
    assert losses.shape == (0,)
    assert losses.dtype == torch.float32


def test_large_logits_do_not_overflow():
    """exp of 200 is infinite in float32; the norm must be taken in the log domain."""
    hidden = torch.tensor([[200.0, -200.0]], requires_grad=True)
    losses = linear_cross_entropy(hidden, torch.eye(2), torch.tensor([1]))
    losses.sum().backward()
    assert losses.tolist() == [400]
    assert hidden.grad.tolist() == [[1, -1]]


def test_without_gradient_nothing_is_kept():
    """Decoding asks for losses only; a stored gradient would double its memory."""
    hidden, weight, targets = inputs(torch.float32, False)
    with torch.no_grad():
        assert linear_cross_entropy(hidden, weight, targets).grad_fn is None
