"""The retriever's scores, by hand where they can be, and what they must not depend on."""

from math import exp, log, sqrt

import pytest
import torch

from models.configuration import build_config
from models.release.retriever import ReleasedRetriever
from models.spt.retriever import Retriever
from utils.errors import UserError

SOFTPLUS_AT_ZERO, SOFTPLUS_AT_MINUS = log(2) / 10, log(1 + exp(-6)) / 10  # ln(1 + exp(10 x)) / 10


def make(width=2, **model):
    """A retriever of settings of the section `model`, its weights the same each time."""
    torch.manual_seed(0)
    layer = {"model": {"model_name": "unused", **model}}
    settings = build_config([("test", layer)]).model
    return (ReleasedRetriever if settings.released else Retriever)(width, settings)


def encoder(width=8, **model):
    """A retriever with a transformer encoder."""
    settings = {"retriever_type": "transformer_encoder", "n_head": 2, "num_layers": 2}
    return make(width, retriever=settings | model.pop("retriever", {}), **model)


def everything(context):
    """The mask of a query without padding."""
    return torch.ones(context.shape[:2], dtype=torch.bool)


# means (3, 4), (0, 1), (-3, 4); against the context's mean (1, 0): cosines 0.6, 0, -0.6
PROMPTS = torch.tensor([[[5.0, 4.0], [1.0, 4.0]], [[0.0, 2.0], [0.0, 0.0]], [[-3.0, 5.0], [-3.0, 3.0]]])
CONTEXT = torch.tensor([[[2.0, 1.0], [0.0, -1.0]]])


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("softplus", [0.6, SOFTPLUS_AT_ZERO, SOFTPLUS_AT_MINUS]),  # beta 10, linear from beta x > 1 on
        ("relu", [0.6, 0.0, 0.0]),
        ("leaky_relu", [0.6, 0.0, -0.006]),
    ],
)
def test_the_score_is_the_activated_cosine_of_the_means(activation, expected):
    """Another activation or another beta ranks the prompts in the same order: only the fusion loss would tell."""
    retriever = make(normalizer=None, score_activation=activation)
    assert not list(retriever.parameters())
    scores = retriever(PROMPTS, CONTEXT, everything(CONTEXT))
    assert scores.shape == (3, 1)
    assert scores.flatten().tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("places", "vectors"),
    [
        # linear(x, y) = (2x, y + 1) takes the prompt (3, 4) to (6, 5) and the context (1, 0) to (2, 1)
        (["prompt", "lm"], ((6, 5), (2, 1))),
        (["prompt"], ((6, 5), (1, 0))),
        (["lm"], ((3, 4), (2, 1))),
        ([], ((3, 4), (1, 0))),
    ],
)
def test_the_linear_layer_applies_where_normalizer_on_says(places, vectors):
    """A layer on one side only, or before the mean's side is chosen, makes another space to compare in."""
    retriever = make(normalizer_on=places)
    with torch.no_grad():
        retriever.linear.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
        retriever.linear.bias.copy_(torch.tensor([0.0, 1.0]))
    (a, b), (c, d) = vectors
    cosine = (a * c + b * d) / (sqrt(a * a + b * b) * sqrt(c * c + d * d))  # above 0.1, so softplus keeps it
    scores = retriever(PROMPTS[:1], CONTEXT, everything(CONTEXT))
    assert scores.item() == pytest.approx(cosine, abs=1e-6)


@pytest.mark.parametrize("make_retriever", [lambda: make(8), encoder], ids=["linear", "transformer_encoder"])
def test_padding_and_neighbours_do_not_count(make_retriever):
    """A score that reads padding changes with the batch, and so would the chosen prompt (paper)."""
    retriever = make_retriever()
    prompts, context = torch.randn(3, 4, 8), torch.randn(2, 5, 8)
    alone = retriever(prompts, context[:1, :3], everything(context[:1, :3]))
    mask = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    together = retriever(prompts, context, mask)
    torch.testing.assert_close(together[:, :1], alone)
    assert not torch.allclose(together[:, :1], retriever(prompts, context, everything(context))[:, :1])


def test_the_releases_encoder_attends_across_the_batch():
    """The authors' checkpoints were trained that way (batch_first was forgotten); only so do they decode."""
    retriever = encoder(fidelity="released_code")
    prompts, context = torch.randn(3, 4, 8), torch.randn(2, 5, 8)
    together = retriever(prompts, context, everything(context))
    alone = retriever(prompts, context[:1], everything(context[:1]))
    assert not torch.allclose(together[:, :1], alone, atol=1e-4)


@pytest.mark.parametrize("places", [["extra"], ["lm"]])
def test_the_encoder_applies_where_retriever_on_says(places):
    """An encoder on the wrong side scores all the same, with weights that were trained for the other."""
    both, one = encoder(), encoder(retriever={"retriever_on": places})
    prompts, context = torch.randn(3, 4, 8), torch.randn(2, 5, 8)
    seen = []
    one.encoder.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[0]))
    scores = one(prompts, context, everything(context))
    assert seen == ([3] if places == ["extra"] else [2])
    assert not torch.allclose(scores, both(prompts, context, everything(context)))


def test_decoding_and_training_score_alike():
    """torch has a second, fused path for encoders without gradient; a prompt chosen by it was never trained."""
    retriever = encoder()
    prompts, context = torch.randn(3, 4, 8), torch.randn(2, 5, 8)
    mask = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    training = retriever.train()(prompts, context, mask)
    with torch.inference_mode():
        decoding = retriever.eval()(prompts, context, mask)
    torch.testing.assert_close(decoding, training)


def test_heads_that_do_not_divide_the_width_are_named():
    """torch would end in an assertion that says nothing of the key to change."""
    with pytest.raises(UserError, match=r"model\.retriever\.n_head = 3 .* width 8"):
        encoder(retriever={"n_head": 3})


def test_scores_of_a_half_precision_lm_are_float32():
    """In float16 the scores' small differences, which the choice rests on, are rounded away."""
    retriever = make(8)
    context = torch.randn(2, 5, 8)
    scores = retriever(torch.randn(3, 4, 8), context.half(), everything(context))
    assert scores.dtype == torch.float32
