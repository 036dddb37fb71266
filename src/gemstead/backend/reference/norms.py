"""RMS normalisation, the activation and the softcap: the three small formulas every layer uses.

MODEL.md 2. All of them treat each row alone, so nothing here depends on what else is in a batch.
Next: rope.py, attention.py, feed_forward.py.
"""

from __future__ import annotations

import math

import numpy as np

from gemstead.backend.base import Floats

GELU_SLOPE = np.float32(math.sqrt(2.0 / math.pi))  # of the tanh approximation
GELU_CUBE = np.float32(0.044715)  # Hendrycks & Gimpel, "Gaussian Error Linear Units", section 2


def rms_norm(x: Floats, weight: Floats | None, eps: float) -> Floats:
    """Scale the last axis to root mean square 1, then by `weight` as it is (no "1 + w"; None: no scale)."""
    mean_square = np.add.reduce(x * x, axis=-1, keepdims=True) * np.float32(1.0 / x.shape[-1])
    y = x * (np.float32(1.0) / np.sqrt(mean_square + np.float32(eps)))
    return y if weight is None else y * weight


def gelu(x: Floats) -> Floats:
    """The tanh form of GELU: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))."""
    inner = x * x
    inner *= GELU_CUBE
    inner += np.float32(1.0)
    inner *= x
    inner *= GELU_SLOPE
    np.tanh(inner, out=inner)
    inner += np.float32(1.0)
    inner *= x
    inner *= np.float32(0.5)
    return inner


def softcap(x: Floats, cap: float | None) -> Floats:
    """Squash to (-cap, cap) by cap * tanh(x / cap); None leaves x as it is."""
    if cap is None:
        return x
    return np.tanh(x / np.float32(cap)) * np.float32(cap)
