"""The small formulas against float64."""

from __future__ import annotations

import numpy as np

from gemstead.backend.reference.norms import gelu, rms_norm, softcap

X = np.random.default_rng(0).standard_normal((4, 7, 33)).astype(np.float32) * 5


def test_rms_norm_makes_the_mean_square_one_and_uses_the_weight_as_it_is():
    plain = rms_norm(X, None, 0.0).astype(np.float64)
    np.testing.assert_allclose((plain**2).mean(-1), 1.0, rtol=1e-5)
    weight = np.arange(33, dtype=np.float32)
    np.testing.assert_allclose(rms_norm(X, weight, 0.0), plain * weight, rtol=1e-5)
    assert not rms_norm(np.zeros((1, 8), np.float32), None, 1e-6).any()


def test_gelu_and_softcap():
    x = X.astype(np.float64)
    expected = x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(gelu(X), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(softcap(X, 3.0), 3 * np.tanh(x / 3), rtol=1e-5)
    assert softcap(X, None) is X


def test_everything_stays_float32():
    for y in (rms_norm(X, None, 1e-6), rms_norm(X, X[0, 0], 1e-6), gelu(X), softcap(X, 30.0)):
        assert y.dtype == np.float32
