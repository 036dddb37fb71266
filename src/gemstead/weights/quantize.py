"""Chooses a number format for each tensor of a model that is to be written smaller.

Norms, scalars, the router and index tensors keep their precision; rows that do not fill a block fall
back to a format with a smaller one. Neighbours: formats.py, model_file.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from gemstead.spec.tensors import TensorSpec
from gemstead.weights.formats import get

_FALLBACKS = ("q8_0", "f16")


def choose_formats(rows: Sequence[TensorSpec], wanted: str) -> dict[str, str]:
    """A format by tensor name: `wanted` where a tensor may be quantized and its rows are whole blocks.

    Where they are not, q8_0, else f16. Tensors that may not be quantized are absent (f32).
    """
    get(wanted)
    chosen = {}
    for row in rows:
        if row.may_quantize:
            chosen[row.name] = next(
                name for name in (wanted, *_FALLBACKS) if row.shape[-1] % get(name).block == 0
            )
    return chosen
