"""The benchmark itself: every way runs on the tiny LM, and the two ways of a step compute the same losses."""

import sys

import pytest

from tests.benchmark import measure as measure_module
from tests.benchmark.__main__ import _arguments
from tests.benchmark.measure import WAYS, measure
from tests.benchmark.runs import agreement, table

SMALL = (
    "--size=tiny --share=0.02 --batch=4 --examples=4 --example_examples=4 --decoded=4 --baseline_decoded=2"
)


@pytest.fixture
def args(monkeypatch):
    """The flags of a benchmark that takes seconds."""
    monkeypatch.setattr(sys, "argv", ["benchmark", *SMALL.split(), "--device=cpu"])
    monkeypatch.setattr(measure_module, "matrix_rate", lambda device, dtype: 1e12)
    return _arguments()


def test_every_way_runs_and_the_losses_agree(args):
    """Nothing else calls these: after a change of the project `make bench` would fail, or compare two other things."""
    rows = [measure(way, args) for way in WAYS]
    losses = [row["losses"] for row in rows if "losses" in row]
    assert len(losses) == 4
    for other in losses[1:3]:
        assert other == pytest.approx(losses[0], abs=1e-5)
    lines = table(rows, "title").splitlines()
    assert len(lines) == 4 + len(WAYS)
    assert all(line.startswith(f"| {way} |") for line, way in zip(lines[4:], WAYS, strict=True))
    assert lines[4].split("|")[3].strip() == lines[8].split("|")[3].strip() == "1.0"
    assert agreement(rows).startswith("the float32 losses of the same two examples differ by ")


def test_decoding_is_measured_in_the_batches_of_test_py(args, monkeypatch):
    """In the order of the file they hold texts of any length: the benchmark would measure another decoding."""
    seen = []
    original = measure_module.decoding_batches

    def recorded(texts, size, keep_order=False):
        seen.append(keep_order)
        return original(texts, size, keep_order)

    monkeypatch.setattr(measure_module, "decoding_batches", recorded)
    measure("decode, batch of 32", args)
    assert seen == [False]
