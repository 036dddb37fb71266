"""Rotary positions (RoPE): turn pairs of a head's values by an angle that grows with the position.

MODEL.md 2. Element i pairs with i + head_dim/2; only the first `rope_pairs` pairs turn, the others
carry no position (p-RoPE on full layers). Angles are float32. Used by attention.py and drafter.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gemstead.backend.base import Floats, Ints
from gemstead.spec.model import AttentionSpec


@dataclass(frozen=True, slots=True)
class Rotation:
    """cos and sin of every row's angles, [T, 1, rope_pairs]; the 1 spreads over the heads."""

    cos_T1R: Floats
    sin_T1R: Floats


@lru_cache(maxsize=64)
def frequencies(attention: AttentionSpec) -> Floats:
    """Angle per position of each turning pair: rope_theta^(-2i/head_dim) / rope_factor, [rope_pairs].

    The exponent is rounded to float32 first and the power taken once in float64: this gives the very
    bits the checkpoints were trained with, which matters when the position is in the thousands.
    """
    dim = np.float32(attention.head_dim)
    exponent = np.arange(0, 2 * attention.rope_pairs, 2, dtype=np.float32) / dim
    power = np.power(float(attention.rope_theta), exponent.astype(np.float64)).astype(np.float32)
    return (np.float32(1.0) / power) / np.float32(attention.rope_factor)


def rotation(attention: AttentionSpec, positions_T: Ints) -> Rotation:
    """The rotation of each row's position for one kind of attention."""
    angles = positions_T.astype(np.float32)[:, None, None] * frequencies(attention)
    return Rotation(np.cos(angles), np.sin(angles))


def rotate(x_TNH: Floats, turn: Rotation) -> Floats:
    """Turn pairs (i, i + H/2) for i < R; the rest pass unchanged."""
    half, pairs = x_TNH.shape[-1] // 2, turn.cos_T1R.shape[-1]
    first, second = x_TNH[..., :pairs], x_TNH[..., half : half + pairs]
    y_TNH = x_TNH.copy()
    y_TNH[..., :pairs] = first * turn.cos_T1R - second * turn.sin_T1R
    y_TNH[..., half : half + pairs] = second * turn.cos_T1R + first * turn.sin_T1R
    return y_TNH
