"""The rows of metrics.jsonl between them tell of every example once."""

import pytest

from tests.helpers import logged


def test_the_rows_of_an_epoch_sum_up_to_it(trained_run):
    """A row that also holds what the rows before it told hides how the loss moves within an epoch."""
    epochs = logged(trained_run, "train_epoch")
    assert epochs
    for epoch in epochs:
        rows = [row for row in logged(trained_run, "train") if row["epoch"] == epoch["epoch"]]
        assert len(rows) > 1
        assert sum(row["examples"] for row in rows) == epoch["examples"]
        for chosen in range(len(epoch["prompt_share"])):
            counted = sum(row["examples"] * row["prompt_share"][chosen] for row in rows)
            assert counted == pytest.approx(epoch["examples"] * epoch["prompt_share"][chosen], abs=1e-6)
