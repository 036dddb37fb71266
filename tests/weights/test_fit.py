"""Scales of least weighted error: what they promise, and what they must survive."""

import numpy as np
import pytest

from gemstead.weights.fit import best_affine, best_symmetric
from gemstead.weights.formats import TABLE

RNG = np.random.default_rng(0)
VALUES = RNG.standard_normal((64, 32)).astype(np.float32)
EVEN = np.ones_like(VALUES)


def symmetric_error(values, scale, weights, half=8):
    q = np.clip(np.rint(values / scale), -half, half - 1)
    return (weights * (scale * q - values) ** 2).sum(-1)


def test_the_search_is_never_worse_than_the_peak() -> None:
    peak = np.take_along_axis(VALUES, np.abs(VALUES).argmax(-1, keepdims=True), -1) / -8
    best = symmetric_error(VALUES, best_symmetric(VALUES, EVEN, 8), EVEN)
    plain = symmetric_error(VALUES, peak.astype(np.float32), EVEN)
    assert (best <= plain * 1.0001).all()
    assert best.sum() < 0.95 * plain.sum()


def test_what_was_on_levels_stays_exact() -> None:
    """A model trained for q4_0 must come through as it is."""
    levels = RNG.integers(-7, 8, VALUES.shape).astype(np.float32)
    levels[:, :2] = -8, 7
    values = levels * np.float32(0.125)
    np.testing.assert_array_equal(best_symmetric(values, EVEN, 8)[:, 0], np.float32(0.125))
    scale, low = best_affine(levels + 8, 15)
    np.testing.assert_allclose(scale, 1, rtol=1e-5)
    np.testing.assert_allclose(low, 0, atol=1e-4)


def test_weights_move_the_error_to_where_it_counts_least() -> None:
    weights = np.where(np.arange(32) < 16, np.float32(100), np.float32(1)) * EVEN
    even, weighed = best_symmetric(VALUES, EVEN, 8), best_symmetric(VALUES, weights, 8)
    assert symmetric_error(VALUES, weighed, weights).sum() < symmetric_error(VALUES, even, weights).sum()


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.weighs])
def test_every_weighing_format_lowers_the_weighted_error(name: str) -> None:
    fmt = TABLE[name]
    values = RNG.standard_normal((32, 512)).astype(np.float32)
    importance = np.exp(2 * RNG.standard_normal(512)).astype(np.float32)

    def error(blocks):
        return (importance * (fmt.unpack(blocks).reshape(values.shape) - values) ** 2).sum()

    assert error(fmt.pack(values, importance)) < error(fmt.pack(values))


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.weighs])
@pytest.mark.parametrize("importance", [0.0, 1.0, 1e30])
@pytest.mark.filterwarnings("error")
def test_odd_values_stay_finite(name: str, importance: float) -> None:
    values = np.zeros((6, 256), np.float32)
    values[1] = 1e-38
    values[2, 3] = -5.0
    values[3] = 7.0
    values[4] = np.linspace(-1e-20, 1e-20, 256)
    back = TABLE[name].unpack(TABLE[name].pack(values, np.full(256, importance, np.float32)))
    assert np.isfinite(back).all()
    assert np.abs(back.reshape(values.shape) - values)[[0, 1, 4]].max() <= 1e-6
    np.testing.assert_allclose(back.reshape(values.shape)[3], 7.0, rtol=0.01 if importance else 1)


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.weighs])
@pytest.mark.filterwarnings("error")
def test_only_what_weights_are_to_each_other_counts(name: str) -> None:
    values = RNG.standard_normal((4, 256)).astype(np.float32)
    importance = np.exp(RNG.standard_normal(256)).astype(np.float32)
    few, many = (TABLE[name].pack(values, importance * np.float32(2.0**n)) for n in (-90, 100))
    assert (few == many).all()
