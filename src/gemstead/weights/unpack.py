"""How each quantized block becomes float32 values: one function per format, vectorised over blocks.

These functions are the definition of the formats: kernels are tested against them bit for bit.
Every function takes uint8 blocks [n, block_bytes] and fills float32 out [n, block]; the order of the
float operations is part of the format (it decides the last bit). Neighbours: pack.py, formats.py.
Layouts: MODEL.md 7.2; scale fields are little-endian.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

# The sixteen levels of IQ4_NL and IQ4_XS (MODEL.md 7.2).
IQ4_LEVELS: Floats = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.float32
)


def _view(blocks: Bytes, start: int, stop: int, dtype: str) -> npt.NDArray[Any]:
    """The bytes start:stop of every block, read as little-endian values of `dtype`."""
    return np.ascontiguousarray(blocks[:, start:stop]).view(dtype)


def _half(blocks: Bytes, start: int) -> Floats:
    """The float16 field at byte `start` of every block, as float32 [n, 1]."""
    return _view(blocks, start, start + 2, "<f2").astype(np.float32)


def _low_high(quants: Bytes) -> Bytes:
    """Nibbles of [..., m] bytes as [..., 2m]: all low nibbles, then all high nibbles."""
    return np.concatenate([quants & 15, quants >> 4], axis=-1)


def _fifth_bits(blocks: Bytes, start: int) -> Bytes:
    """The 32 high bits stored in four bytes at `start`, each already worth 16: uint8 [n, 32]."""
    bits = np.unpackbits(blocks[:, start : start + 4], axis=1, bitorder="little")
    return bits << np.uint8(4)


def _k_scales(packed: Bytes) -> tuple[Bytes, Bytes]:
    """The eight 6-bit scales and eight 6-bit minima of Q4_K and Q5_K from their twelve bytes."""
    first, second, third = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([first & 63, (third & 15) | ((first >> 6) << 4)], axis=1)
    minima = np.concatenate([second & 63, (third >> 4) | ((second >> 6) << 4)], axis=1)
    return scales, minima


def f32(blocks: Bytes, out: Floats) -> None:
    """IEEE single precision."""
    out[...] = blocks.view("<f4")


def f16(blocks: Bytes, out: Floats) -> None:
    """IEEE half precision."""
    out[...] = blocks.view("<f2")


def f64(blocks: Bytes, out: Floats) -> None:
    """IEEE double precision, rounded to single; out of range becomes infinite."""
    with np.errstate(over="ignore"):
        out[...] = blocks.view("<f8")


def bf16(blocks: Bytes, out: Floats) -> None:
    """The upper half of a single-precision number."""
    out.view(np.uint32)[...] = blocks.view("<u2")
    out.view(np.uint32)[...] <<= 16


def i32(blocks: Bytes, out: Floats) -> None:
    """32-bit integers; exact up to 2^24."""
    out[...] = blocks.view("<i4")


def i64(blocks: Bytes, out: Floats) -> None:
    """64-bit integers; exact up to 2^24."""
    out[...] = blocks.view("<i8")


def q4_0(blocks: Bytes, out: Floats) -> None:
    """d * (q - 8)."""
    quants = _low_high(blocks[:, 2:]).view(np.int8)
    quants -= 8
    np.multiply(quants, _half(blocks, 0), out=out, casting="same_kind", dtype=np.float32)


def q4_1(blocks: Bytes, out: Floats) -> None:
    """d * q + m."""
    np.multiply(_low_high(blocks[:, 4:]), _half(blocks, 0), out=out, dtype=np.float32)
    out += _half(blocks, 2)


def q5_0(blocks: Bytes, out: Floats) -> None:
    """d * (q - 16)."""
    quants = (_low_high(blocks[:, 6:]) | _fifth_bits(blocks, 2)).view(np.int8)
    quants -= 16
    np.multiply(quants, _half(blocks, 0), out=out, dtype=np.float32)


def q5_1(blocks: Bytes, out: Floats) -> None:
    """d * q + m."""
    quants = _low_high(blocks[:, 8:]) | _fifth_bits(blocks, 4)
    np.multiply(quants, _half(blocks, 0), out=out, dtype=np.float32)
    out += _half(blocks, 2)


def q8_0(blocks: Bytes, out: Floats) -> None:
    """d * q."""
    np.multiply(blocks[:, 2:].view(np.int8), _half(blocks, 0), out=out, dtype=np.float32)


def q2_k(blocks: Bytes, out: Floats) -> None:
    """d * scale * q - dmin * minimum, sixteen values a scale."""
    n = len(blocks)
    packed = blocks[:, 0:16]
    scale = _half(blocks, 80) * (packed & 15).astype(np.float32)
    minimum = _half(blocks, 82) * (packed >> 4).astype(np.float32)
    shifts = np.arange(0, 8, 2, dtype=np.uint8).reshape(4, 1)
    quants = (blocks[:, 16:80].reshape(n, 2, 1, 32) >> shifts) & 3
    rows = out.reshape(n, 16, 16)
    np.multiply(quants.reshape(n, 16, 16), scale[:, :, None], out=rows, dtype=np.float32)
    rows -= minimum[:, :, None]


def q3_k(blocks: Bytes, out: Floats) -> None:
    """d * (scale - 32) * (q - 4), the third bit of q apart; sixteen values a scale."""
    n = len(blocks)
    packed = blocks[:, 96:108]
    shifts = np.arange(0, 8, 2, dtype=np.uint8).reshape(4, 1)
    high = ((packed[:, None, 8:] >> shifts) & 3).reshape(n, 16)
    scale = (_low_high(packed[:, :8]) | (high << 4)).view(np.int8) - np.int8(32)
    low = ((blocks[:, 32:96].reshape(n, 2, 1, 32) >> shifts) & 3).reshape(n, 8, 32)
    third = (blocks[:, None, 0:32] >> np.arange(8, dtype=np.uint8).reshape(8, 1)) & 1
    quants = (low | (third << 2)).view(np.int8) - np.int8(4)
    factor = _half(blocks, 108) * scale.astype(np.float32)
    rows = out.reshape(n, 16, 16)
    np.multiply(quants.reshape(n, 16, 16), factor[:, :, None], out=rows, dtype=np.float32)


def _k_affine(blocks: Bytes, quants: Bytes, out: Floats) -> None:
    """d * scale * q - dmin * minimum for Q4_K and Q5_K: quants [n, 8, 32]."""
    scales, minima = _k_scales(blocks[:, 4:16])
    scale = _half(blocks, 0) * scales.astype(np.float32)
    minimum = _half(blocks, 2) * minima.astype(np.float32)
    rows = out.reshape(len(blocks), 8, 32)
    np.multiply(quants, scale[:, :, None], out=rows, dtype=np.float32)
    rows -= minimum[:, :, None]


def q4_k(blocks: Bytes, out: Floats) -> None:
    """d * scale * q - dmin * minimum, 32 values a scale."""
    n = len(blocks)
    _k_affine(blocks, _low_high(blocks[:, 16:].reshape(n, 4, 32)).reshape(n, 8, 32), out)


def q5_k(blocks: Bytes, out: Floats) -> None:
    """As Q4_K with a fifth bit: bit j of byte l of the high bits belongs to value l of sub-block j."""
    n = len(blocks)
    low = _low_high(blocks[:, 48:].reshape(n, 4, 32)).reshape(n, 8, 32)
    high = (blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8).reshape(8, 1)) & np.uint8(1)
    quants: Bytes = low | (high << np.uint8(4))
    _k_affine(blocks, quants, out)


def q6_k(blocks: Bytes, out: Floats) -> None:
    """d * scale * (q - 32), sixteen values a signed 8-bit scale."""
    n = len(blocks)
    low = _low_high(blocks[:, :128].reshape(n, 2, 64)).reshape(n, 2, 4, 32)
    shifts = np.arange(0, 8, 2, dtype=np.uint8).reshape(4, 1)
    high = (blocks[:, 128:192].reshape(n, 2, 1, 32) >> shifts) & 3
    quants = (low | (high << 4)).view(np.int8) - np.int8(32)
    factor = _half(blocks, 208) * blocks[:, 192:208].view(np.int8).astype(np.float32)
    rows = out.reshape(n, 16, 16)
    np.multiply(quants.reshape(n, 16, 16), factor[:, :, None], out=rows, dtype=np.float32)


def iq4_nl(blocks: Bytes, out: Floats) -> None:
    """d * level[q], sixteen fixed levels."""
    np.multiply(IQ4_LEVELS[_low_high(blocks[:, 2:])], _half(blocks, 0), out=out)


def iq4_xs(blocks: Bytes, out: Floats) -> None:
    """d * (scale - 32) * level[q], 32 values a 6-bit scale."""
    n = len(blocks)
    high = (_view(blocks, 2, 4, "<u2") >> np.arange(0, 16, 2, dtype=np.uint16)) & 3
    pairs = blocks[:, 4:8, None] >> np.array([0, 4], dtype=np.uint8)
    low = (pairs & 15).reshape(n, 8)
    scale = (low | (high.astype(np.uint8) << 4)).view(np.int8) - np.int8(32)
    factor = _half(blocks, 0) * scale.astype(np.float32)
    levels = IQ4_LEVELS[_low_high(blocks[:, 8:].reshape(n, 8, 16))]
    np.multiply(levels, factor[:, :, None], out=out.reshape(n, 8, 32))
