"""What a fitted router sees of an example."""

import numpy as np
import pytest
import torch

from models.routing.features import TURNS, context_features, turn_features
from tests.helpers import encoded, model_of


def test_features_are_means_of_each_text_read_alone(make_config, examples):
    """Texts of a dialogue share a row: a border that is off by one gives the router a neighbour's words."""
    model = model_of(make_config("llama"))
    texts = encoded(model, examples[:7], response=False)
    found = context_features(model.lm, texts, torch.device("cpu"))
    for text, features in zip(texts, found, strict=True):
        ids = torch.from_numpy(text.ids[: text.query_end].astype(np.int64))[None]
        states = model.lm.hidden(model.lm.embed(ids))[0].detach().double()  # [Q, H]
        wanted = torch.cat([states.mean(dim=0), states[text.last_turn :].mean(dim=0)])
        torch.testing.assert_close(features, wanted, rtol=1e-4, atol=1e-5)


def test_responses_are_not_seen(make_config, examples):
    """A router that is fitted on the response does well in the report, and in decoding has nothing to go by."""
    model = model_of(make_config())
    device = torch.device("cpu")
    with_response = context_features(model.lm, encoded(model, examples[:3], response=True), device)
    without = context_features(model.lm, encoded(model, examples[:3], response=False), device)
    torch.testing.assert_close(with_response, without)


@pytest.mark.parametrize(("turn", "place"), [(0, 0), (3, 3), (TURNS - 1, TURNS - 1), (40, TURNS - 1)])
def test_late_turns_are_the_last_feature(turn, place):
    """A chat that is longer than every dialogue that was fitted on would end in an index error."""
    assert turn_features(np.array([turn])).argmax() == place
