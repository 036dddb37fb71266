"""An adapter's terms as the structs the core reads, in the file's numbers.

The shapes have been checked by weights/adapter.py, and the core checks them again. Neighbours: layout.py,
backend.py.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gemstead.backend.native import layout
from gemstead.backend.native.library import address
from gemstead.backend.native.packing import Bytes, code_of

if TYPE_CHECKING:
    from gemstead.weights.adapter import Adapter
    from gemstead.weights.tensor import Tensor

# In the order of gemstead.h; all but the last belong to a layer.
_LINEARS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
    "router.proj",
    "per_layer_input_gate",
    "per_layer_projection",
    "per_layer_model_projection",
)


class AdapterTerms:
    """The structs of one adapter: `terms`, valid while it is open, and the memory that stays needed."""

    def __init__(self, adapter: Adapter) -> None:
        self._kept: list[Bytes] = []
        # A as it is and, copied by the core, B in float32.
        self.nbytes = sum(t.a.nbytes + 4 * math.prod(t.b.shape) for t in adapter.terms.values())
        self.terms = (layout.Term * len(adapter.terms))()
        for struct, (name, term) in zip(self.terms, adapter.terms.items(), strict=True):
            layer, linear = (0, name) if not name.startswith("layers.") else _split(name)
            struct.layer, struct.linear, struct.scale = layer, _LINEARS.index(linear), term.scale
            (a,), (b,) = term.a.raw(), term.b.raw()
            self._kept.append(np.array(a, order="C"))  # the file may be closed, or written anew
            struct.a, struct.b = _matrix(term.a, self._kept[-1]), _matrix(term.b, b)


def _matrix(tensor: Tensor, data: Bytes) -> layout.Matrix:
    rows, columns = tensor.shape
    return layout.Matrix(address(data), code_of(tensor), 0, 1, 0, rows, columns)


def _split(name: str) -> tuple[int, str]:
    """layers.3.mlp.up_proj as 3 and mlp.up_proj."""
    _, layer, linear = name.split(".", 2)
    return int(layer), linear
