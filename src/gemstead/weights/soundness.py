"""Looks at every value of an opened model: NaN, infinity, and tensors that hold nothing but zeros.

Opening reads only heads and vectors of a large model (bind.py); this reads all of it, a piece at a time.
Above: cli/verify.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gemstead.weights.store import Store
from gemstead.weights.tensor import Tensor


def faulty_values(store: Store, seen: Callable[[int], None] = lambda _: None) -> list[str]:
    """A line for each tensor whose values cannot be right; `seen` hears how many bytes were read."""
    found = []
    for tensor in store.tensors.values():
        fault = _fault(tensor, seen)
        if fault is not None:
            found.append(f"{tensor.name} {fault}")
    return found


def _fault(tensor: Tensor, seen: Callable[[int], None]) -> str | None:
    wrong, peak = 0, 0.0
    for start, stop in tensor.spans():
        values = tensor.float32(start, stop)
        wrong += values.size - int(np.count_nonzero(np.isfinite(values)))
        peak = max(peak, float(np.abs(values).max()))  # NaN: counted above
        seen(tensor.release(start, stop))
    if wrong:
        return f"holds {wrong:,} values that are NaN or infinite"
    if peak == 0 and len(tensor.shape) > 1:
        return "holds only zeros: a hole where a download stopped, or a tensor that was never filled"
    return None
