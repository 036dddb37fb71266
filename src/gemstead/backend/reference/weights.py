"""The weights as the forward wants them: a matrix times rows, rows of a table, a vector.

Small models live here as float32; big ones stay quantized in the file's map and are unpacked block
by block while they are used. Reads a weights.store.Store; refuses nothing (the store has checked).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gemstead.backend.base import Floats, Ints

if TYPE_CHECKING:
    from gemstead.weights.store import Store

# A model of at most this size in float32 is unpacked once and kept (256M parameters); a bigger one
# never holds more than one block, one expert and its vectors outside the file's map.
RESIDENT_BYTES = 1 << 30

# A matrix meets the rows in blocks of this many float32 bytes: half of a common 2 MiB L2 cache, so a
# block unpacked or fetched once serves all rows from cache (measured: 0.5 to 2 MiB are equal).
BLOCK_BYTES = 1 << 20


def times_rows(x_TI: Floats, w_OI: Floats) -> Floats:
    """y = x Wᵀ with one matrix-vector product per row of x.

    One product over all rows would be up to three times faster on long prompts, but BLAS then rounds
    a row differently with the number of rows beside it. A row alone gives the same bits in any
    batch: the house rule of this backend.
    """
    y_T1O: Floats = np.matmul(x_TI[:, None, :], w_OI.T)
    return y_T1O[:, 0, :]


class Weights:
    """Named weights of one store, float32 to the outside whatever the file holds."""

    def __init__(self, store: Store) -> None:
        self._tensors = store.tensors
        float_bytes = 4 * sum(math.prod(t.shape) for t in self._tensors.values())
        self.resident = float_bytes <= RESIDENT_BYTES
        self._kept: dict[str, Floats] = {}

    def vector(self, name: str) -> Floats:
        """A norm weight, scale or scalar, whole; kept after its first use."""
        return self._whole(name)

    def rows(self, name: str, index_T: Ints) -> Floats:
        """Rows of a table (the embeddings), [T, width]; a big table is read from the map only here."""
        rows: Floats = self._whole(name)[index_T] if self.resident else self._tensors[name].rows(index_T)
        return rows

    def linear(self, name: str, x_TI: Floats, start: int = 0, stop: int | None = None) -> Floats:
        """x Wᵀ for rows start..stop of the matrix: [T, I] -> [T, stop - start]."""
        rows, width = self._tensors[name].shape
        stop = rows if stop is None else stop
        # The blocks depend on the matrix only, never on the batch: see times_rows.
        step = max(1, BLOCK_BYTES // (4 * width))
        if stop - start <= step and len(x_TI):
            return times_rows(x_TI, self._block(name, start, stop))
        y_TO = np.empty((len(x_TI), stop - start), np.float32)
        for first in range(start, stop if len(x_TI) else start, step):
            last = min(first + step, stop)
            y_TO[:, first - start : last - start] = times_rows(x_TI, self._block(name, first, last))
        return y_TO

    def expert(self, name: str, expert: int, x_TI: Floats) -> Floats:
        """x Wᵀ with the matrix of one expert: [T, I] -> [T, O]; the other experts are not touched."""
        return times_rows(x_TI, self._block(name, expert, expert + 1)[0])

    def integers(self, name: str) -> npt.NDArray[np.int64]:
        """An integer tensor (a drafter's token_ordering)."""
        ids: npt.NDArray[np.int64] = self._tensors[name].int64()
        return ids

    def close(self) -> None:
        """Let go of every kept array."""
        self._kept.clear()

    def _block(self, name: str, start: int, stop: int) -> Floats:
        return self._whole(name)[start:stop] if self.resident else self._tensors[name].float32(start, stop)

    def _whole(self, name: str) -> Floats:
        if name not in self._kept:
            self._kept[name] = self._tensors[name].float32()
        return self._kept[name]
