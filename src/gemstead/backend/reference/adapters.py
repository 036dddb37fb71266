"""Low-rank adapters: what each sequence's own adapter adds to the linears, without touching the weights.

y = W x + scale * B (A x), row by row as everything here, so a row gets the same bits whoever shares its
batch. `Adapted` stands in for the weights during one forward. Above: model.py. Below: weights.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Listing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gemstead.backend.base import Batch, Floats, Ints
from gemstead.backend.reference.weights import Weights, times_rows

if TYPE_CHECKING:
    from gemstead.weights.adapter import Adapter


@dataclass(frozen=True, slots=True)
class Term:
    """What an adapter adds to one linear."""

    a_RI: Floats
    b_OR: Floats
    scale: float

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self.a_RI.nbytes + self.b_OR.nbytes


Terms = Mapping[str, Term]


def unpack(adapter: Adapter) -> Terms:
    """The adapter's terms in float32, independent of its file."""
    return {name: Term(t.a.float32(), t.b.float32(), t.scale) for name, t in adapter.terms.items()}


class Adapted(Weights):
    """The weights as the rows of one batch meet them. adapter_T: the number of each row's adapter, or 0."""

    def __init__(self, weights: Weights, adapters: Listing[Terms], adapter_T: Ints) -> None:
        # Not Weights' own __init__: everything the weights have unpacked is shared with them.
        self.__dict__.update(weights.__dict__)
        self._plain = weights
        self._adapters = adapters
        self._adapter_T = adapter_T
        self._present = [int(n) for n in np.unique(adapter_T) if n]

    @classmethod
    def of(cls, weights: Weights, adapters: Listing[Terms], batch: Batch) -> Adapted:
        """For all rows of a batch."""
        counts = [s.count for s in batch.sequences]
        return cls(
            weights, adapters, np.repeat([s.adapter for s in batch.sequences], counts).astype(np.int32)
        )

    def keep(self, rows: Ints) -> Adapted:
        """For only these rows of it."""
        return Adapted(self._plain, self._adapters, self._adapter_T[rows])

    def linear(self, name: str, x_TI: Floats, start: int = 0, stop: int | None = None) -> Floats:
        """x Wᵀ and each row's own term, for rows start..stop of the matrix: [T, I] -> [T, stop - start]."""
        y_TO = self._plain.linear(name, x_TI, start, stop)
        for number in self._present:
            term = self._adapters[number - 1].get(name)
            if term is not None:
                own = self._adapter_T == number
                low_TR = times_rows(x_TI[own], term.a_RI) * np.float32(term.scale)
                y_TO[own] += times_rows(low_TR, term.b_OR[start:stop])
        return y_TO

    def expert(self, name: str, expert: int, x_TI: Floats) -> Floats:
        """As the weights alone do it: no adapter adds to experts."""
        return self._plain.expert(name, expert, x_TI)
