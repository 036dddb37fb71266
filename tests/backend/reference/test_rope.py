"""Rotations: which pairs turn, how far, and what they leave alone."""

from __future__ import annotations

import numpy as np
import pytest

from gemstead.backend.reference.rope import frequencies, rotate, rotation
from gemstead.spec.model import AttentionSpec

SLIDING = AttentionSpec("sliding", 2, 1, 16, 8, 1e4, 8)
FULL = AttentionSpec("full", 2, 1, 32, None, 1e6, 4, rope_factor=4.0)
X_TNH = np.random.default_rng(0).standard_normal((5, 3, 32)).astype(np.float32)
POSITIONS = np.array([0, 1, 7, 100, 5000], np.int32)


@pytest.mark.parametrize("attention", [SLIDING, FULL])
def test_frequencies_divide_by_the_whole_head(attention):
    i, dim = np.arange(attention.rope_pairs), attention.head_dim
    expected = attention.rope_theta ** (-2 * i / dim) / attention.rope_factor
    np.testing.assert_allclose(frequencies(attention), expected, rtol=1e-6)


def test_pairs_are_half_a_head_apart_and_the_rest_passes():
    turned = rotate(X_TNH, rotation(FULL, POSITIONS))
    angle = POSITIONS[:, None, None] * frequencies(FULL).astype(np.float64)
    a, b = X_TNH[..., :4], X_TNH[..., 16:20]
    np.testing.assert_allclose(turned[..., :4], a * np.cos(angle) - b * np.sin(angle), atol=2e-3)
    np.testing.assert_allclose(turned[..., 16:20], b * np.cos(angle) + a * np.sin(angle), atol=2e-3)
    assert np.array_equal(turned[..., 4:16], X_TNH[..., 4:16])
    assert np.array_equal(turned[..., 20:], X_TNH[..., 20:])
    assert np.array_equal(turned[0], X_TNH[0])


def test_a_score_depends_on_the_distance_only():
    q, k = X_TNH[:1, :, :16], X_TNH[1:2, :, :16]

    def score(at_q, at_k):
        turned = [rotate(x, rotation(SLIDING, np.array([p], np.int32))) for x, p in ((q, at_q), (k, at_k))]
        return (turned[0] * turned[1]).sum(-1)

    np.testing.assert_allclose(score(9, 3), score(106, 100), atol=1e-4)
