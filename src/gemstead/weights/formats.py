"""The table of number formats a weight file may hold: block, bytes, ggml type, unpack and pack.

A new format is one row here, its two functions in unpack.py and pack.py, and a kernel folder.
Refuses formats it has no row for, by name. Read by gguf.py, safetensors.py and store.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from gemstead.errors import WeightsError
from gemstead.weights import pack, unpack

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

# Values unpacked at a time, so that the intermediate arrays stay in the processor's cache.
_CHUNK_VALUES = 1 << 16


@dataclass(frozen=True)
class Format:
    """One number format: `block` values take `block_bytes` bytes. `safetensors` is its name there.

    `scales`: where in a block its float16 factors and offsets stand; the rest of it is whole numbers.
    `weighs`: pack_blocks takes a second array, how much each value matters.
    """

    name: str
    ggml_type: int | None
    block: int
    block_bytes: int
    unpack_into: Callable[[Bytes, Floats], None] = field(repr=False)
    pack_blocks: Callable[..., Bytes] | None = field(default=None, repr=False)
    safetensors: str | None = None
    scales: tuple[int, ...] = ()
    weighs: bool = False

    @property
    def quantized(self) -> bool:
        """Whether values share a block and are approximations."""
        return self.block > 1

    def row_bytes(self, width: int) -> int:
        """Bytes of a row of `width` values; WeightsError unless whole blocks fill it."""
        if width % self.block:
            raise WeightsError(
                f"a row of {width} values cannot be {self.name}: it is not a multiple of {self.block}"
            )
        return width // self.block * self.block_bytes

    def nbytes(self, shape: Sequence[int]) -> int:
        """Bytes of a tensor, slowest axis first; WeightsError unless its rows are whole blocks."""
        return math.prod(shape[:-1]) * self.row_bytes(shape[-1]) if shape else self.block_bytes

    def unpack(self, blocks: Bytes) -> Floats:
        """Blocks uint8 [n, block_bytes] as float32 [n, block]."""
        blocks = blocks.reshape(-1, self.block_bytes)
        if not blocks.flags.c_contiguous:
            blocks = np.ascontiguousarray(blocks)
        out = np.empty((len(blocks), self.block), dtype=np.float32)
        step = max(1, _CHUNK_VALUES // self.block)
        with np.errstate(invalid="ignore", over="ignore"):  # hostile scales may be infinite or NaN
            for start in range(0, len(blocks), step):
                self.unpack_into(blocks[start : start + step], out[start : start + step])
        return out

    def is_finite(self, blocks: Bytes) -> bool:
        """Whether no value of uint8 [..., n * block_bytes] is NaN or infinite.

        A float16 times whole numbers of a byte is finite in float32 exactly when the float16 is, so
        only scales are looked at.
        """
        blocks = blocks.reshape(-1, self.block_bytes)
        if not self.scales:
            return bool(np.isfinite(self.unpack(blocks)).all())
        exponents = (blocks[:, at + 1] & 0x7C for at in self.scales)  # all ones: NaN or infinity
        return all(not (bits == 0x7C).any() for bits in exponents)

    def pack(self, values: Floats, importance: Floats | None = None) -> Bytes:
        """Float32 [..., w] as bytes uint8 [..., row_bytes(w)].

        `importance` [w] or any shape that broadcasts to the values', >= 0: how much an error of each counts;
        formats that do not weigh ignore it. WeightsError when the format cannot be written, when w is not
        whole blocks, or when a value is not finite or too large for the format's scale.
        """
        if self.pack_blocks is None:
            raise WeightsError(f"cannot write {self.name}; writable are {', '.join(writable())}")
        values = np.ascontiguousarray(values, dtype=np.float32)
        row_bytes = self.row_bytes(values.shape[-1])
        flat = values.reshape(-1, self.block)
        out = np.empty((len(flat), self.block_bytes), dtype=np.uint8)
        weights = None
        if importance is not None and self.weighs:
            weights = np.broadcast_to(importance, values.shape).reshape(-1, self.block)
        step = max(1, _CHUNK_VALUES // self.block)
        for start in range(0, len(flat), step):
            part = slice(start, start + step)
            self._pack_chunk(flat[part], out[part], None if weights is None else weights[part])
        return out.reshape(*values.shape[:-1], row_bytes)

    def _pack_chunk(self, values: Floats, out: Bytes, weights: Floats | None) -> None:
        assert self.pack_blocks is not None
        if self.name not in ("f32", "bf16"):
            peak = float(np.abs(values).max(initial=0.0))
            if not peak <= _LARGEST[self.name]:
                raise WeightsError(
                    f"cannot write a value of magnitude {peak:g} as {self.name}; "
                    f"the largest is {_LARGEST[self.name]:g}: use bf16 or f32"
                )
        out[...] = self.pack_blocks(values) if weights is None else self.pack_blocks(values, weights)


# The float16 scale (or value) must stay finite: 65504 times the largest level.
_LARGEST: Mapping[str, float] = MappingProxyType(
    {
        "f16": 65504.0,
        "q8_0": 65504.0 * 127,
        "q4_0": 65504.0 * 8,
        "q4_1": 65504.0,
        "q5_0": 65504.0 * 16,
        "q5_1": 65504.0,
        "q4_k": 65504.0 * 15,
        "q5_k": 65504.0 * 31,
        "q6_k": 65504.0 * 32,
    }
)

_ROWS = (
    Format("f32", 0, 1, 4, unpack.f32, pack.f32, "F32"),
    Format("f16", 1, 1, 2, unpack.f16, pack.f16, "F16"),
    Format("bf16", 30, 1, 2, unpack.bf16, pack.bf16, "BF16"),
    Format("f64", 28, 1, 8, unpack.f64, None, "F64"),
    Format("i32", 26, 1, 4, unpack.i32, None, "I32"),
    Format("i64", 27, 1, 8, unpack.i64, None, "I64"),
    Format("q8_0", 8, 32, 34, unpack.q8_0, pack.q8_0, scales=(0,)),
    Format("q4_0", 2, 32, 18, unpack.q4_0, pack.q4_0, weighs=True, scales=(0,)),
    Format("q4_1", 3, 32, 20, unpack.q4_1, pack.q4_1, weighs=True, scales=(0, 2)),
    Format("q5_0", 6, 32, 22, unpack.q5_0, pack.q5_0, weighs=True, scales=(0,)),
    Format("q5_1", 7, 32, 24, unpack.q5_1, pack.q5_1, weighs=True, scales=(0, 2)),
    Format("q2_k", 10, 256, 84, unpack.q2_k, scales=(80, 82)),
    Format("q3_k", 11, 256, 110, unpack.q3_k, scales=(108,)),
    Format("q4_k", 12, 256, 144, unpack.q4_k, pack.q4_k, weighs=True, scales=(0, 2)),
    Format("q5_k", 13, 256, 176, unpack.q5_k, pack.q5_k, weighs=True, scales=(0, 2)),
    Format("q6_k", 14, 256, 210, unpack.q6_k, pack.q6_k, weighs=True, scales=(208,)),
    Format("iq4_nl", 20, 32, 18, unpack.iq4_nl, scales=(0,)),
    Format("iq4_xs", 23, 256, 136, unpack.iq4_xs, scales=(0,)),
)

TABLE: Mapping[str, Format] = MappingProxyType({row.name: row for row in _ROWS})
BY_GGML_TYPE: Mapping[int, Format] = MappingProxyType(
    {row.ggml_type: row for row in _ROWS if row.ggml_type is not None}
)
BY_SAFETENSORS: Mapping[str, Format] = MappingProxyType(
    {row.safetensors: row for row in _ROWS if row.safetensors is not None}
)

# ggml types that exist and that gemstead does not read, so that an error can say their name
# (ggml.h's enum; MODEL.md 7.2).
UNREAD_GGML_TYPES: Mapping[int, str] = MappingProxyType(
    {
        4: "Q4_2",
        5: "Q4_3",
        9: "Q8_1",
        15: "Q8_K",
        16: "IQ2_XXS",
        17: "IQ2_XS",
        18: "IQ3_XXS",
        19: "IQ1_S",
        21: "IQ3_S",
        22: "IQ2_S",
        24: "I8",
        25: "I16",
        29: "IQ1_M",
        34: "TQ1_0",
        35: "TQ2_0",
        39: "MXFP4",
        40: "NVFP4",
        41: "Q1_0",
    }
)


def writable() -> tuple[str, ...]:
    """The names of the formats that can be written."""
    return tuple(row.name for row in _ROWS if row.pack_blocks is not None)


def get(name: str) -> Format:
    """The row called `name`; WeightsError listing the known names otherwise."""
    row = TABLE.get(name)
    if row is None:
        raise WeightsError(f"format {name!r} is unknown; known are {', '.join(TABLE)}")
    return row
