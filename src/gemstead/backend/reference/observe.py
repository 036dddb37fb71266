"""The reference backend looking at itself: how large the inputs of every matrix are, column by column.

Quantizing asks for it (engine/importance.py): a column that meets large inputs deserves small errors. Gives
up the house rule of same bits in any batch for whole matrix products, which are several times faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gemstead.backend.base import Floats
from gemstead.backend.reference.backend import ReferenceBackend
from gemstead.backend.reference.weights import BLOCK_BYTES, Weights

if TYPE_CHECKING:
    from gemstead.weights.store import Store


class ObservingBackend(ReferenceBackend):
    """A reference backend that counts; `threads` is BLAS's."""

    def __init__(self, store: Store, threads: int = 1) -> None:
        super().__init__(store, None, threads)
        self.seen = ObservedWeights(store)
        self._weights = self.seen


class ObservedWeights(Weights):
    """Sums of squares of everything a matrix was multiplied with."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._sums: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = {}
        self._counts: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = {}

    def linear(self, name: str, x_TI: Floats, start: int = 0, stop: int | None = None) -> Floats:
        """x Wᵀ for rows start..stop of the matrix, counted."""
        rows, width = self._tensors[name].shape
        self._count(name, 1, 0, x_TI)
        stop = rows if stop is None else stop
        step = max(1, BLOCK_BYTES // (4 * width))
        y_TO = np.empty((len(x_TI), stop - start), np.float32)
        for first in range(start, stop, step):
            last = min(first + step, stop)
            np.matmul(x_TI, self._block(name, first, last).T, out=y_TO[:, first - start : last - start])
        self._release(name)
        return y_TO

    def expert(self, name: str, expert: int, x_TI: Floats) -> Floats:
        """x Wᵀ with the matrix of one expert, counted for this expert."""
        self._count(name, self._tensors[name].shape[0], expert, x_TI)
        y_TO: Floats = x_TI @ self._block(name, expert, expert + 1)[0].T
        self._release(name)
        return y_TO

    def mean_squares(self) -> dict[str, Floats]:
        """By tensor the mean square of each input column, [I], of experts [E, I].

        An expert that nothing was sent to gets the mean of the others.
        """
        found = {}
        for name, sums_EI in self._sums.items():
            counts_E1 = self._counts[name][:, None]
            overall_I = sums_EI.sum(axis=0) / max(1.0, float(counts_E1.sum()))
            mean_EI = np.where(counts_E1 > 0, sums_EI / np.maximum(counts_E1, 1), overall_I)
            mean = mean_EI.astype(np.float32)
            found[name] = mean if len(self._tensors[name].shape) == 3 else mean[0]
        return found

    def _count(self, name: str, groups: int, group: int, x_TI: Floats) -> None:
        if name not in self._sums:
            self._sums[name] = np.zeros((groups, x_TI.shape[-1]))
            self._counts[name] = np.zeros(groups)
        self._sums[name][group] += np.einsum("ti,ti->i", x_TI, x_TI)
        self._counts[name][group] += len(x_TI)

    def _release(self, name: str) -> None:
        """Give the pages of a model that stays in its file back, so that it never lies in memory whole."""
        if not self.resident:
            for part in self._tensors[name].parts:
                part.release()
