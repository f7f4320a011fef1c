"""The ways that the benchmark compares compute the same."""

import pytest
import torch

from companions.personagpt.model import build_personagpt
from companions.personagpt.tokens import make_tokenizer
from dataset.encoding import EncodedExample
from tests.companions.personagpt.benchmark import WAYS
from tests.companions.personagpt.golden import GOLDEN, content
from tests.companions.personagpt.training import encoded, golden_config


def test_all_ways_have_the_same_loss():
    """A way that is faster because it computes something else would be reported as faster."""
    config = golden_config()
    model = build_personagpt(config, make_tokenizer(config.model)).train()
    pairs = content(GOLDEN / "preprocess" / "dialogues.corrected.json")[0]
    examples = [
        EncodedExample(example.ids, example.query_end, example.targets, "", index % 2, index)
        for index, example in enumerate(encoded(pairs))
    ]
    examples.sort(key=lambda example: example.dialogue)  # a dialogue's examples stand side by side
    means = {}
    with torch.no_grad():
        for name, way in WAYS.items():
            parts = [(loss.item() * count, count) for loss, count in way(model, examples)]
            assert sum(count for _, count in parts) == len(pairs)
            means[name] = sum(loss for loss, _ in parts) / len(pairs)
    for name, mean in means.items():
        assert mean == pytest.approx(means["batches, rows: dialogue"], abs=1e-5), name
