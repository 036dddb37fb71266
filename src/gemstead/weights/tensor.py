"""One tensor of the forward: named, typed, read-only, dequantised only as far as it is asked for.

May be joined from several stored tensors (split experts). Neighbours: mapped.py below, store.py above.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gemstead.errors import WeightsError
from gemstead.weights.mapped import StoredTensor

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
_CHUNK_VALUES = 1 << 20  # looked at together for NaN


class Tensor:
    """A tensor under its canonical name; `shape` in Hugging Face order ([out, in], experts first).

    With several `parts` the tensor is their concatenation along axis -2 (three axes at least).
    """

    __slots__ = ("name", "parts", "shape")

    def __init__(self, name: str, shape: tuple[int, ...], parts: Sequence[StoredTensor]) -> None:
        assert len(parts) == 1 or len(shape) > 2
        self.name = name
        self.shape = shape
        self.parts = tuple(parts)

    @property
    def format(self) -> str:
        """The format's name in formats.TABLE; "a+b" when the parts differ."""
        return "+".join(dict.fromkeys(part.format.name for part in self.parts))

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(part.nbytes for part in self.parts)

    def raw(self) -> tuple[Bytes, ...]:
        """The bytes of each part as a read-only view [..., row bytes]; valid until the store is closed."""
        return tuple(part.raw() for part in self.parts)

    def float32(self, start: int = 0, stop: int | None = None) -> Floats:
        """The entries start:stop of the leading axis, dequantised into a new array."""
        length = self.shape[0] if self.shape else 1
        stop = length if stop is None else stop
        if not 0 <= start <= stop <= length:
            raise IndexError(f"{self.name} has {length} rows; {start}:{stop} is outside")
        if len(self.shape) < 2:
            (part,) = self.parts
            return part.format.unpack(part.raw()).reshape(self.shape)[start:stop]
        return self._join([part.raw()[start:stop] for part in self.parts])

    def rows(self, index: npt.ArrayLike) -> Floats:
        """The entries `index` (integers, any shape) of the leading axis, dequantised into a new array."""
        where = np.asarray(index)
        if where.size and (where.min() < 0 or where.max() >= self.shape[0]):
            raise IndexError(
                f"{self.name} has {self.shape[0]} rows; {where.min()}..{where.max()} was asked for"
            )
        if len(self.shape) < 2:
            values: Floats = self.float32()[where]
            return values
        return self._join([part.raw()[where] for part in self.parts])

    def is_finite(self) -> bool:
        """Whether no value is NaN or infinite; looks at all of them, a few rows at a time."""
        if len(self.shape) < 2:
            return all(part.format.is_finite(part.raw()) for part in self.parts)
        return all(
            part.format.is_finite(raw[start:stop])
            for part, raw in zip(self.parts, self.raw(), strict=True)
            for start, stop in self.spans()
        )

    def spans(self) -> list[tuple[int, int]]:
        """The leading axis in pieces of about a million values, an entry at least."""
        length = self.shape[0]
        step = max(1, _CHUNK_VALUES * length // math.prod(self.shape))
        return [(start, min(start + step, length)) for start in range(0, length, step)]

    def release(self, start: int, stop: int) -> int:
        """Let the system have the memory of these entries' bytes, which would count as ours; how many."""
        for part in self.parts:
            row_bytes = part.nbytes // part.shape[0]
            part.file.release(part.start + start * row_bytes, (stop - start) * row_bytes)
        return self.nbytes * stop // self.shape[0] - self.nbytes * start // self.shape[0]

    def int64(self) -> npt.NDArray[np.int64]:
        """The values of an integer tensor; WeightsError for any other."""
        (part,) = self.parts
        if part.format.name not in ("i32", "i64"):
            raise WeightsError(f"{self.name} is {part.format.name}; i32 or i64 is needed for indices")
        return part.raw().view("<" + part.format.name[0] + str(part.format.block_bytes)).astype(np.int64)

    def _join(self, raws: list[Bytes]) -> Floats:
        values = [
            part.format.unpack(raw).reshape(*raw.shape[:-1], part.shape[-1])
            for part, raw in zip(self.parts, raws, strict=True)
        ]
        return values[0] if len(values) == 1 else np.concatenate(values, axis=-2)
