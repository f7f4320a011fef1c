"""The memory sum of large LMs: its arithmetic, and that small LMs take what it says."""

from functools import partial

import pytest

from models.cost import Activations, measured_activations
from tests.benchmark.memory import (
    DEVICE_GIB,
    GIB,
    fit,
    measured,
    parts,
    sizes,
    small,
    table,
)
from tests.benchmark.setting import SIZES

KNOWN = Activations(per_width=14, per_feed_forward=6, outside=24)


def test_the_coefficients_are_found_again():
    """Two unknowns that are mixed up would fit the small LMs, and be gigabytes off for the large ones."""
    found, error = fit(lambda size: (int(KNOWN.total(sizes(size), 1000)), 1000))
    assert (found.per_width, found.per_feed_forward, found.outside) == pytest.approx((14, 6, 24), rel=1e-4)
    assert error == pytest.approx(0, abs=1e-4)


def test_the_sum_of_7b_by_hand():
    """A part that is left out, or counted in another unit, promises a device that is too small."""
    found = parts(SIZES["llama2-7b"], KNOWN, prompts=4, per_pass=2, rows=2, length=512)
    layer = 14 * 4096 + 6 * 11008
    assert found == {
        "weights": 2 * 6_738_415_616,
        "trained part": 20 * 16_797_696,
        "activations": 2 * 2 * 513 * (32 * layer + 24 * 4096),
        "targets": 8 * 4 * 2 * 512 * 4096,
        "logits": 2**27,
    }
    assert sum(found.values()) / GIB < DEVICE_GIB == pytest.approx(74.5, abs=0.01)


def test_the_table_has_the_sums():
    """The documentation would show other figures than those that were computed."""
    lines = table(KNOWN, 0.001).splitlines()
    assert len(lines) == 4 + 6
    assert lines[5].startswith("| llama2-7b | 2 | 12.6 | 0.3 | 7.7 | 0.1 | 0.1 | ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "precision", "trained"),
    [pytest.param("opt", 32, False, marks=pytest.mark.long), ("llama", 32, True)],
)
@pytest.mark.long
def test_the_kept_coefficients_are_those_that_are_measured(kind, precision, trained):
    """The estimate before a training would be of an LM that keeps less, and the training would run out of memory."""
    found, error = fit(partial(measured, precision=precision, trained=trained), kind)
    kept = measured_activations(sizes(small(256, 512, 2, kind), precision), trained)
    assert abs(error) < 0.05
    assert (found.per_width, found.per_feed_forward) == pytest.approx(
        (kept.per_width, kept.per_feed_forward), rel=0.02
    )


@pytest.mark.slow
def test_small_lms_take_what_the_sum_says():
    """A change that keeps one more tensor per layer would make the table of the large LMs wrong by gigabytes."""
    found, error = fit()
    assert abs(error) < 0.02
    assert (found.per_width, found.per_feed_forward) == pytest.approx((14, 6), rel=0.02)
    peak, tokens = measured(small(384, 1152, 8), per_pass=1)
    assert found.total(sizes(small(384, 1152, 8)), tokens) == pytest.approx(peak, rel=0.1)
