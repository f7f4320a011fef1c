"""The warning that all soft prompts are the same."""

import torch

from models.spt.equal_prompts import equal_prompts_warning
from tests.helpers import logged, train


def _prompts(*factors):
    one = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))
    return torch.stack([factor * one for factor in factors])


def test_equal_prompts_are_told():
    """Prompts that start alike get alike gradients: K of them are one, at K times the cost."""
    for prompts in (
        _prompts(1, 1, 1),
        _prompts(0, 0),
        _prompts(1, 1).bfloat16(),
        _prompts(1, 1 + 1e-4, 1 - 1e-4),
        1e20 * _prompts(1, 1),
    ):
        assert "soft prompts are all the same" in (equal_prompts_warning(prompts) or ""), prompts


def test_other_prompts_are_not():
    """One that differs is enough, in its direction or its length, and a single prompt has no other."""
    other = _prompts(1, 1, 1)
    other[2, 0, 0] += 0.5
    for prompts in (
        _prompts(1),
        _prompts(1, -1),
        _prompts(1, 2),
        _prompts(1, 1.1),
        other,
        torch.randn(4, 8, 32),
    ):
        assert equal_prompts_warning(prompts) is None


def test_a_run_whose_prompts_stay_equal_tells_it(make_config, distributed, monkeypatch):
    """Such a run's losses fall like those of prompt tuning, and its retriever has nothing to choose among."""

    def start(prompts, *_):
        with torch.no_grad():
            prompts.weight.copy_(prompts.weight[:1].expand_as(prompts.weight))

    monkeypatch.setattr("models.spt.model.start_prompts", start)
    # the noise of the selection is drawn for each prompt: without it, and with scores that are equal, all stay alike
    run = train(make_config(training={"training_ratio": 0.2, "num_epochs": 2}), distributed, "equal")
    assert [row["fault"] for row in logged(run, "warning") if "fault" in row] == ["equal prompts"]
