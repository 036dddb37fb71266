"""Low-rank adapters in PyTorch: y = W x + scale * B (A x), each row with its own sequence's adapter.

`Adapted` is what the layers call in place of functional.linear. Rows without an adapter go through the
same product as ever. Used by backend.py; layers.py knows only the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Listing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gemstead.backend.base import Batch
from gemstead.backend.torch.loading import unpack
from gemstead.backend.torch.model import TextModel

if TYPE_CHECKING:
    from gemstead.weights.adapter import Adapter


@dataclass(frozen=True, slots=True)
class Term:
    """What an adapter adds to one matrix, A [rank, in] and B [out, rank] in the model's dtype."""

    a: Tensor
    b: Tensor
    scale: float

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self.a.nbytes + self.b.nbytes


Terms = Mapping[int, Term]  # by the id() of the parameter, which lives as long as the backend


def bound(adapter: Adapter, model: TextModel) -> Terms:
    """The adapter's terms beside the model's own matrices, on their device."""
    found = {}
    for name, term in adapter.terms.items():
        weight = model.get_parameter(name)
        a, b = (unpack(x, weight.device, weight.dtype) for x in (term.a, term.b))
        found[id(weight)] = Term(a, b, term.scale)
    return found


class Adapted:
    """linear(x, weight) for x [T, in], the rows of one batch. adapter_T: the number of each row's, or 0."""

    def __init__(self, adapters: Listing[Terms], adapter_T: Tensor) -> None:
        self._adapters, self._adapter_T = adapters, adapter_T
        present = [int(n) for n in adapter_T.unique() if n] if adapters else []
        self._groups = [(adapters[n - 1], (adapter_T == n).nonzero()[:, 0]) for n in present]

    @classmethod
    def of(cls, adapters: Listing[Terms], batch: Batch, device: torch.device) -> Adapted:
        """For all rows of a batch."""
        numbers = np.repeat([s.adapter for s in batch.sequences], [s.count for s in batch.sequences])
        return cls(adapters, torch.from_numpy(numbers.astype(np.int64)).to(device))

    def keep(self, rows: Tensor) -> Adapted:
        """For only these rows of it."""
        return Adapted(self._adapters, self._adapter_T[rows]) if self._adapters else self

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        y = functional.linear(x, weight)
        for terms, rows in self._groups:
            term = terms.get(id(weight))
            if term is not None:
                low = functional.linear(x[rows], term.a) * term.scale
                y = y.index_add(0, rows, functional.linear(low, term.b))
        return y
