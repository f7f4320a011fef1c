"""The retriever that scores prompts from the context alone."""

import pytest
import torch

from models.configuration import build_config
from models.spt.linear_retriever import LinearRetriever


def make(width=2, **model):
    """A linear retriever for three prompts, its weights the same each time."""
    torch.manual_seed(0)
    layer = {"model": {"model_name": "unused", "K": 3, "retriever": {"scorer": "linear"}, **model}}
    return LinearRetriever(width, build_config([("test", layer | {"training": {"fusion": "off"}})]).model)


PROMPTS = torch.zeros(3, 4, 2)
CONTEXT = torch.tensor([[[2.0, 1.0], [0.0, -1.0], [9.0, 9.0]]])  # the mean of the first two: (1, 0)
MASK = torch.tensor([[True, True, False]])


@pytest.mark.parametrize(
    ("normalizer", "expected"),
    # linear(x, y) = (2x, y + 1) takes the context (1, 0) to (2, 1)
    [(None, [3.5, 0.0, -3.0]), ("linear", [6.5 + 1, 1.0, -6.0])],
)
def test_the_score_is_a_product_and_a_bias(normalizer, expected):
    """Without the bias, or after an activation, "prompt 0 is the best on average" cannot be learnt."""
    retriever = make(normalizer=normalizer)
    with torch.no_grad():
        retriever.scorer.weight.copy_(torch.tensor([[3.0, 1.0], [0.0, 1.0], [-3.0, 0.0]]))
        retriever.scorer.bias.copy_(torch.tensor([0.5, 0.0, 0.0]))
        if retriever.linear is not None:
            retriever.linear.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
            retriever.linear.bias.copy_(torch.tensor([0.0, 1.0]))
    assert retriever(PROMPTS, CONTEXT, MASK).flatten().tolist() == pytest.approx(expected)


def test_the_bias_learns_which_prompt_is_best_on_average():
    """Cosines cannot: where contexts hardly differ, the retriever then picks a prompt that is worse than most."""
    retriever = make(normalizer=None)
    optimiser = torch.optim.SGD(retriever.parameters(), lr=0.5)
    context, mask = torch.zeros(4, 2, 2), torch.ones(4, 2, dtype=torch.bool)
    for _ in range(30):
        optimiser.zero_grad()
        scores = retriever(PROMPTS, context, mask)  # [3, 4]
        torch.nn.functional.cross_entropy(scores.T, torch.full((4,), 2)).backward()
        optimiser.step()
    assert scores.argmax(dim=0).tolist() == [2, 2, 2, 2]
    assert scores.softmax(dim=0)[2].min() > 0.8


def test_scores_of_half_precision_weights_are_float32():
    """In float16 the scores' small differences, which the choice rests on, are rounded away."""
    retriever = make(width=8).half()
    context, mask = torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)
    scores = retriever(torch.zeros(3, 4, 8), context.half(), mask)
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, scores.half().float())
