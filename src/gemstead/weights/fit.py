"""Scales of least squared error for a block of values, each value weighed by how much it matters.

A few scales near the obvious one are tried; for each the values are rounded to levels and the scale is
fitted again to these levels by least squares; the best try wins. Knows no layout. Used by pack.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

# By how many levels a try is narrower than the whole range: the largest value is clipped where the
# others gain more. Wider tries pay where the largest value is not the one that matters.
_AFFINE_TRIES = (0.0, -0.5, -1.0, -1.5, 0.5)
_SYMMETRIC_TRIES = (0.0, -0.06, 0.06, -0.12, 0.12, -0.18, 0.18, 0.25)  # of the scale
_LEAST = np.float32(1e-30)  # a scale that cannot be inverted: its values are rounded to 0


def _inside_first(values: Floats) -> Floats:
    """The values with the axis of a block in front: sums over it then run over whole rows, which is fast."""
    return np.ascontiguousarray(np.moveaxis(values, -1, 0))


def _relative(weights: Floats) -> Floats:
    """The weights of each block over a power of two, so that the largest lies around 1: only what they are to
    each other counts, and the sums of large ones would be infinite."""
    relative: Floats = np.ldexp(weights, -np.frexp(weights.max(axis=0))[1])
    return relative


def best_symmetric(values: Floats, weights: Floats, half: int) -> Floats:
    """The scale [..., 1] of levels -half .. half - 1 for blocks on the last axis."""
    where = np.abs(values).argmax(axis=-1, keepdims=True)
    first = np.take_along_axis(values, where, axis=-1)[..., 0] / np.float32(-half)
    x, w = _inside_first(values), _relative(_inside_first(weights))
    weighed = w * x
    best_gain, best_scale = np.zeros_like(first), first
    inverse = np.divide(np.float32(1), first, out=np.zeros_like(first), where=np.abs(first) > _LEAST)
    q, product = np.empty_like(x), np.empty_like(x)
    for change in _SYMMETRIC_TRIES:
        np.multiply(x, inverse * np.float32(1 + change), out=q)
        np.rint(q, out=q)
        np.clip(q, -half, half - 1, out=q)
        sum_qx = np.multiply(weighed, q, out=product).sum(axis=0)
        np.multiply(q, q, out=q)
        sum_qq = np.multiply(w, q, out=product).sum(axis=0)
        safe = np.where(sum_qq > 0, sum_qq, np.float32(1))
        gain = sum_qx * sum_qx / safe  # the error is what the weighted squares sum to, less this
        better = (gain > best_gain) & (sum_qq > 0)
        best_gain = np.where(better, gain, best_gain)
        best_scale = np.where(better, sum_qx / safe, best_scale)
    return best_scale[..., None]


def best_affine(
    values: Floats, top: int, weights: Floats | None = None, ceiling: float = np.inf
) -> tuple[Floats, Floats]:
    """Scale and offset (<= ceiling), [..., 1] each, of levels 0 .. top: value = scale * level + offset."""
    x = _inside_first(values)
    w = np.float32(1) if weights is None else _relative(_inside_first(weights))
    weighed = w * x
    low = np.minimum(x.min(axis=0), np.float32(ceiling))
    span = x.max(axis=0) - low
    count = np.float32(len(x)) if weights is None else w.sum(axis=0)
    sum_x = weighed.sum(axis=0)
    best_error = np.full(low.shape, np.inf, dtype=np.float32)
    best_scale, best_low = span / np.float32(top), low
    q, product = np.empty_like(x), np.empty_like(x)
    above = x - low
    for shrink in _AFFINE_TRIES:
        inverse = np.divide(np.float32(top + shrink), span, out=np.zeros_like(span), where=span > _LEAST)
        np.clip(np.rint(np.multiply(above, inverse, out=q), out=q), 0, top, out=q)
        sum_qx = np.multiply(q, weighed, out=product).sum(axis=0)
        sum_q = np.multiply(q, w, out=product).sum(axis=0)
        sum_qq = np.multiply(q, product, out=product).sum(axis=0)
        det = count * sum_qq - sum_q * sum_q
        safe = np.where(det > 0, det, 1)
        scale = np.where(det > 0, (count * sum_qx - sum_q * sum_x) / safe, span / np.float32(top))
        offset = np.where(det > 0, (sum_x - scale * sum_q) / np.where(det > 0, count, 1), low)
        offset = np.minimum(offset, np.float32(ceiling))
        np.subtract(np.add(np.multiply(q, scale, out=q), offset, out=q), x, out=q)
        error = np.multiply(w, np.multiply(q, q, out=q), out=q).sum(axis=0)
        better = (error < best_error) & (scale >= 0)
        best_error = np.where(better, error, best_error)
        best_scale, best_low = np.where(better, scale, best_scale), np.where(better, offset, best_low)
    return best_scale[..., None].astype(np.float32), best_low[..., None].astype(np.float32)
