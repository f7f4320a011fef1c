"""What is computed in float32 although the LM is not: losses, their gradient, means over tokens."""

import pytest
import torch
import torch.nn.functional as F

from models.linear_cross_entropy import linear_cross_entropy
from models.losses import example_losses, fusion_loss
from tests.models.spt.test_retriever import make

HALF = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("trainable", [False, True], ids=["frozen_head", "trained_head"])
def test_the_softmax_of_half_precision_logits_is_float32(dtype, trainable):
    """In bf16 a loss has two digits: differences between prompts, which the retriever learns, are gone."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(40, 16, generator=generator).to(dtype)
    weight = torch.randn(300, 16, generator=generator).to(dtype).requires_grad_(trainable)
    targets = torch.randint(300, (40,), generator=generator)
    exact = F.cross_entropy(F.linear(hidden, weight).detach().double(), targets, reduction="none")
    losses = linear_cross_entropy(hidden, weight, targets)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses.detach().double(), exact, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("trainable", [False, True], ids=["frozen_head", "trained_head"])
def test_the_gradient_of_half_precision_logits_is_rounded_once(trainable):
    """A softmax in bf16 has an error of its own in each entry, beside that of the gradient's own rounding."""
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(40, 64, generator=generator).to(torch.bfloat16).requires_grad_()
    weight = torch.randn(300, 64, generator=generator).to(torch.bfloat16).requires_grad_(trainable)
    targets = torch.randint(300, (40,), generator=generator)
    logits = F.linear(hidden, weight).detach().double()
    error = torch.softmax(logits, dim=1) - F.one_hot(targets, 300)  # [rows, Vocab]
    exact = error @ weight.detach().double()
    linear_cross_entropy(hidden, weight, targets).sum().backward()
    distance = (hidden.grad.double() - exact).norm() / exact.norm()
    assert distance < 0.004  # bf16 rounds to 2**-9 of a value


@pytest.mark.parametrize("dtype", HALF)
def test_the_mean_of_a_long_context_is_float32(dtype):
    """A sum of hundreds of tokens in bf16 stops growing at 256 times a token: later tokens would not count."""
    generator = torch.Generator().manual_seed(3)
    context = (torch.randn(2, 500, 8, generator=generator) + 1).to(dtype)  # [B, Q, D]
    mask = torch.ones(2, 500, dtype=torch.bool)
    mask[0, 400:] = False
    prompts = torch.rand(3, 4, 8, generator=generator)  # all cosines are positive
    means = torch.stack([context[0, :400].double().mean(dim=0), context[1].double().mean(dim=0)])
    exact = F.relu(F.cosine_similarity(prompts.double().mean(dim=1)[:, None], means[None], dim=-1))
    scores = make(8, normalizer=None, score_activation="relu")(prompts, context, mask)
    torch.testing.assert_close(scores.double(), exact, atol=1e-5, rtol=1e-5)


def test_means_over_many_tokens_keep_their_digits():
    """A loss that is summed up in half precision depends on how many tokens there are."""
    losses = torch.linspace(1, 2, 3001)  # [N], mean 1.5
    example_of_token = torch.zeros(3001, dtype=torch.long)
    assert example_losses(losses[None], example_of_token, 1).item() == pytest.approx(1.5, abs=1e-5)
    assert fusion_loss(losses, example_of_token, 1).item() == pytest.approx(1.5, abs=1e-5)
