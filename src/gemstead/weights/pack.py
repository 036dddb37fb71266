"""How float32 values become quantized blocks: one function per format, vectorised over blocks.

Every function takes float32 values [n, block] and returns uint8 blocks [n, block_bytes]. The simple
formats round exactly as ggml's reference does; the K formats have an encoder of our own. Given weights
[n, block] >= 0, how much each value matters, scales are chosen for the least weighted error (fit.py).
Refuses nothing: formats.py has checked that values are finite. Neighbours: unpack.py, formats.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gemstead.weights.fit import best_affine, best_symmetric

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def _bytes(values: npt.NDArray[Any], dtype: str) -> Bytes:
    """Values [n, m] as the little-endian bytes [n, m * itemsize] of `dtype`."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values.astype(dtype)).view(np.uint8)


def _inverse(d: Floats) -> Floats:
    """1 / d, and 0 where d is 0; infinite where 1 / d overflows."""
    with np.errstate(divide="ignore", over="ignore"):
        return np.where(d == 0, np.float32(0), np.float32(1) / d)


def _signed_peak(values: Floats) -> Floats:
    """The value of largest magnitude in each block, with its sign: [n, 1]."""
    where = np.abs(values).argmax(axis=1, keepdims=True)
    peaks: Floats = np.take_along_axis(values, where, axis=1)
    return peaks


def _levels(scaled: Floats, top: int) -> Bytes:
    """Truncate non-negative `scaled` to the integers 0 .. top."""
    with np.errstate(invalid="ignore"):
        levels: Bytes = np.clip(np.nan_to_num(np.trunc(scaled)), 0, top).astype(np.uint8)
    return levels


def _nibbles(quants: Bytes) -> Bytes:
    """[n, 32] values of four bits as [n, 16]: the first half in the low nibbles."""
    return (quants[:, :16] & np.uint8(15)) | (quants[:, 16:] << np.uint8(4))


def _fifth_bits(quants: Bytes) -> Bytes:
    """Bit 4 of each of [n, 32] values, packed into four bytes."""
    return np.packbits(quants >> 4, axis=1, bitorder="little")


def f32(values: Floats) -> Bytes:
    """IEEE single precision."""
    return _bytes(values, "<f4")


def f16(values: Floats) -> Bytes:
    """IEEE half precision, rounded to nearest even."""
    return _bytes(values, "<f2")


def bf16(values: Floats) -> Bytes:
    """The upper half of the single, rounded to nearest even; a NaN stays one."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> 16) & 1))) >> 16
    nan = np.isnan(values)
    if nan.any():  # rounding up could carry a NaN's payload into infinity
        rounded = np.where(nan, (bits >> 16) | np.uint32(0x40), rounded)
    return _bytes(rounded, "<u2")


def _symmetric(values: Floats, half: int, weights: Floats | None) -> Floats:
    """The scale [n, 1] of levels -half .. half - 1: the peak's, or the one of least weighted error."""
    if weights is None:
        return _signed_peak(values) / np.float32(-half)
    return _half(best_symmetric(values, weights, half))


def _half(values: Floats) -> Floats:
    """As a float16 field will give them back."""
    return values.astype(np.float16).astype(np.float32)


def q4_0(values: Floats, weights: Floats | None = None) -> Bytes:
    """d = peak / -8, q = floor(x / d + 8.5) at most 15."""
    d = _symmetric(values, 8, weights)
    quants = _levels(values * _inverse(d) + np.float32(8.5), 15)
    return np.concatenate([_bytes(d, "<f2"), _nibbles(quants)], axis=1)


def q5_0(values: Floats, weights: Floats | None = None) -> Bytes:
    """d = peak / -16, q = floor(x / d + 16.5) at most 31."""
    d = _symmetric(values, 16, weights)
    quants = _levels(values * _inverse(d) + np.float32(16.5), 31)
    return np.concatenate([_bytes(d, "<f2"), _fifth_bits(quants), _nibbles(quants)], axis=1)


def _affine(values: Floats, top: int, weights: Floats | None) -> tuple[Bytes, Bytes]:
    """The d and m fields [n, 4] and the levels 0 .. top of w = d * q + m."""
    if weights is None:
        m = values.min(axis=1, keepdims=True)
        d = (values.max(axis=1, keepdims=True) - m) / np.float32(top)
    else:
        d, m = map(_half, best_affine(values, top, weights))
    quants = _levels((values - m) * _inverse(d) + np.float32(0.5), top)
    return np.concatenate([_bytes(d, "<f2"), _bytes(m, "<f2")], axis=1), quants


def q4_1(values: Floats, weights: Floats | None = None) -> Bytes:
    """Sixteen levels from the smallest to the largest value."""
    fields, quants = _affine(values, 15, weights)
    return np.concatenate([fields, _nibbles(quants)], axis=1)


def q5_1(values: Floats, weights: Floats | None = None) -> Bytes:
    """Thirty-two levels from the smallest to the largest value."""
    fields, quants = _affine(values, 31, weights)
    return np.concatenate([fields, _fifth_bits(quants), _nibbles(quants)], axis=1)


def q8_0(values: Floats) -> Bytes:
    """d = peak / 127, q = x / d rounded half away from zero."""
    d = np.abs(values).max(axis=1, keepdims=True) / np.float32(127)
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.nan_to_num(values * _inverse(d), posinf=127, neginf=-127)
    whole = np.trunc(scaled)
    # Doubling the exact remainder rounds halves away from zero; adding 0.5 would round twice.
    quants = np.clip(whole + np.trunc(2 * (scaled - whole)), -127, 127).astype(np.int8)
    return np.concatenate([_bytes(d, "<f2"), quants.view(np.uint8)], axis=1)


def _six_bits(values: Floats) -> tuple[Bytes, Bytes, Floats]:
    """A float16 unit [n, 2 bytes], six-bit multiples of it, and the values they stand for: [n, 8]."""
    unit = _bytes(values.max(axis=1, keepdims=True) / np.float32(63), "<f2")
    real = unit.view("<f2").astype(np.float32)
    multiples = _levels(values * _inverse(real) + np.float32(0.5), 63)
    return unit, multiples, real * multiples.astype(np.float32)


def _pack_k_scales(scales: Bytes, minima: Bytes) -> Bytes:
    """Eight 6-bit scales and minima in twelve bytes, the inverse of unpack._k_scales."""
    first = scales[:, :4] | ((scales[:, 4:] >> 4) << 6)
    second = minima[:, :4] | ((minima[:, 4:] >> 4) << 6)
    third = (scales[:, 4:] & 15) | ((minima[:, 4:] & 15) << 4)
    return np.concatenate([first, second, third], axis=1)


def _k_affine(values: Floats, top: int, weights: Floats | None) -> tuple[Bytes, Bytes]:
    """The sixteen header bytes and the levels [n, 8, 32] of Q4_K (top 15) and Q5_K (top 31)."""
    rows = values.reshape(-1, 8, 32)
    scale, low = best_affine(rows, top, None if weights is None else weights.reshape(rows.shape), 0.0)
    d, scales, real_scale = _six_bits(scale[..., 0])
    dmin, minima, real_minimum = _six_bits(-low[..., 0])
    inverse = _inverse(real_scale)[:, :, None]
    quants = _levels((rows + real_minimum[:, :, None]) * inverse + np.float32(0.5), top)
    return np.concatenate([d, dmin, _pack_k_scales(scales, minima)], axis=1), quants


def _k_nibbles(quants: Bytes) -> Bytes:
    """Levels [n, 8, 32] as 128 bytes: sub-blocks 2c and 2c+1 share 32 bytes."""
    low, high = quants[:, 0::2] & np.uint8(15), quants[:, 1::2] << np.uint8(4)
    return (low | high).reshape(len(quants), 128)


def q4_k(values: Floats, weights: Floats | None = None) -> Bytes:
    """Eight sub-blocks of sixteen levels, 6-bit scales and minima."""
    header, quants = _k_affine(values, 15, weights)
    return np.concatenate([header, _k_nibbles(quants)], axis=1)


def q5_k(values: Floats, weights: Floats | None = None) -> Bytes:
    """Eight sub-blocks of thirty-two levels, 6-bit scales and minima."""
    header, quants = _k_affine(values, 31, weights)
    high = np.packbits(quants >> 4, axis=1, bitorder="little").reshape(len(values), 32)
    return np.concatenate([header, high, _k_nibbles(quants)], axis=1)


def q6_k(values: Floats, weights: Floats | None = None) -> Bytes:
    """Sixteen sub-blocks of 64 levels with signed 8-bit scales."""
    n = len(values)
    rows = values.reshape(n, 16, 16)
    if weights is None:
        scale = _signed_peak(rows.reshape(-1, 16)).reshape(n, 16) / np.float32(-32)
    else:
        scale = best_symmetric(rows, weights.reshape(rows.shape), 32)[..., 0]
    peak = _signed_peak(scale) / np.float32(-128)
    d = _bytes(peak, "<f2")
    unit = d.view("<f2").astype(np.float32)
    scales = np.clip(np.rint(scale * _inverse(unit)), -128, 127).astype(np.int8)
    inverse = _inverse(unit * scales.astype(np.float32))[:, :, None]
    quants = np.clip(np.nan_to_num(np.rint(rows * inverse)) + 32, 0, 63).astype(np.uint8)
    groups = quants.reshape(n, 2, 4, 32)
    low = (groups[:, :, 0:2] & 15) | (groups[:, :, 2:4] << 4)
    high = groups >> 4
    high = high[:, :, 0] | (high[:, :, 1] << 2) | (high[:, :, 2] << 4) | (high[:, :, 3] << 6)
    parts = [low.reshape(n, 128), high.reshape(n, 64), scales.view(np.uint8), d]
    return np.concatenate(parts, axis=1)
