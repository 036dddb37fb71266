"""RMS normalisation, the activation and the softcap: the three small formulas every layer uses.

MODEL.md 2. All of them treat each row alone, so nothing here depends on what else is in a batch.
Next: rope.py, attention.py, feed_forward.py.
"""

from __future__ import annotations

import math

import numpy as np

from gemstead.backend.base import Floats

GELU_SLOPE = math.sqrt(2.0 / math.pi)  # of the tanh approximation
GELU_CUBE = 0.044715  # Hendrycks & Gimpel, "Gaussian Error Linear Units", section 2


def rms_norm(x: Floats, weight: Floats | None, eps: float) -> Floats:
    """Scale the last axis to root mean square 1, then by `weight` as it is (no "1 + w"; None: no scale)."""
    mean_square = np.add.reduce(x * x, axis=-1, keepdims=True) / x.shape[-1]
    y: Floats = x / np.sqrt(mean_square + eps)
    return y if weight is None else y * weight


def gelu(x: Floats) -> Floats:
    """The tanh form of GELU: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))."""
    y = x * x  # one array, worked on in place: it is as wide as the feed-forward
    y *= GELU_CUBE
    y += 1.0
    y *= x
    y *= GELU_SLOPE
    np.tanh(y, out=y)
    y += 1.0
    y *= x
    y *= 0.5
    return y


def softcap(x: Floats, cap: float | None) -> Floats:
    """Squash to (-cap, cap) by cap * tanh(x / cap); None leaves x as it is."""
    if cap is None:
        return x
    y: Floats = np.tanh(x / cap) * cap
    return y
