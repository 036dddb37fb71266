"""What one step of a model must read and compute: bytes of weights, bytes of K/V, operations.

The arithmetic behind every "how fast could it be": bench.py sets its measurements against it. Counts what
no implementation can leave out, from the spec and the sizes on disk; measures nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gemstead.spec.model import ModelSpec
from gemstead.spec.tensors import TensorSpec, text_tensors

# A row of this table is looked up per token; every other matrix is multiplied with, so read whole.
_LOOKED_UP = "embed_tokens_per_layer"
_HEAD = ("embed_tokens", "norm")  # used by the rows whose logits are wanted


@dataclass(frozen=True)
class Step:
    """One forward: `rows` new tokens after `depth` cached ones, in each of so many sequences.

    The last `logit_rows` rows of a sequence get logits; the others stop after the last KV-owning layer.
    """

    depth: int = 0
    rows: int = 1
    sequences: int = 1
    logit_rows: int = 1


@dataclass(frozen=True)
class Cost:
    """What must be read and computed; an operation is a multiplication or an addition."""

    weight_bytes: float
    kv_bytes: float
    operations: float

    @property
    def bytes(self) -> float:
        """All that must come from memory."""
        return self.weight_bytes + self.kv_bytes

    def seconds(self, bytes_s: float, operations_s: float) -> float:
        """The least time on a machine that reads and computes at these rates, both at once."""
        return max(self.bytes / bytes_s, self.operations / operations_s)

    def times(self, count: int) -> Cost:
        """The cost of doing it so often."""
        return Cost(self.weight_bytes * count, self.kv_bytes * count, self.operations * count)


class Costs:
    """The costs of one model in one set of number formats.

    `tensor_bytes`: bytes by canonical tensor name, as stored; `kv_bytes_per_token[p]`: of one token in
    page pool p, all its layers (a backend's Capabilities say it).
    """

    def __init__(
        self, spec: ModelSpec, tensor_bytes: Mapping[str, int], kv_bytes_per_token: Sequence[int]
    ) -> None:
        self._spec = spec
        self._tensors = text_tensors(spec)
        self._bytes = tensor_bytes
        self._kv = tuple(kv_bytes_per_token)

    def of(self, step: Step) -> Cost:
        """What `step` must read and compute."""
        parts = list(self.by_tensor(step).values())
        weight_bytes = sum(part.weight_bytes for part in parts)
        weight_bytes += self._row_bytes("embed_tokens") * step.rows * step.sequences  # the input's lookup
        attention = self.attention(step)
        operations = sum(part.operations for part in parts) + attention.operations
        return Cost(weight_bytes, attention.kv_bytes, operations)

    def by_tensor(self, step: Step) -> dict[str, Cost]:
        """What of that is each tensor's; attention over K/V is nobody's."""
        rows_of = {tensor.name: self._rows_through(tensor.name, step) for tensor in self._tensors}
        return {
            tensor.name: Cost(
                self._read(tensor, rows_of[tensor.name]), 0.0, self._computed(tensor, rows_of[tensor.name])
            )
            for tensor in self._tensors
        }

    def kv_held(self, tokens: int) -> int:
        """Bytes of K/V that a sequence of so many tokens keeps, pages not rounded up."""
        return sum(
            cost * (tokens if pool.window is None else min(tokens, pool.window))
            for cost, pool in zip(self._kv, self._spec.pools, strict=True)
        )

    def _rows_through(self, name: str, step: Step) -> int:
        """How many rows of the batch reach this tensor."""
        per_sequence = step.rows
        if name in _HEAD or (name.startswith("layers.") and self._is_tail(int(name.split(".")[1]))):
            per_sequence = min(step.rows, step.logit_rows)
        return per_sequence * step.sequences

    def _is_tail(self, layer: int) -> bool:
        """Whether rows without logits never reach this layer."""
        return layer > self._spec.last_kv_layer

    def _read(self, tensor: TensorSpec, rows: int) -> float:
        if tensor.name == _LOOKED_UP:
            return self._row_bytes(tensor.name) * rows
        whole = float(self._bytes[tensor.name]) if rows else 0.0
        # Each row takes k of E experts; drawn evenly, n rows miss an expert with (1 - k/E)^n.
        return whole * (1 - (1 - self._active(tensor.name)) ** rows)

    def _computed(self, tensor: TensorSpec, rows: int) -> float:
        if len(tensor.shape) < 2 or tensor.name == _LOOKED_UP:
            return 0.0  # vectors cost next to nothing, a lookup nothing
        return 2.0 * math.prod(tensor.shape) * self._active(tensor.name) * rows

    def _active(self, name: str) -> float:
        """The part of a tensor that one row uses: k of E experts, or all of it."""
        if ".experts." not in name:
            return 1.0
        moe = self._spec.layers[int(name.split(".")[1])].moe
        assert moe is not None, "only layers with experts have such tensors"
        return moe.top_k_experts / moe.num_experts

    def _row_bytes(self, name: str) -> float:
        rows = next(tensor.shape[0] for tensor in self._tensors if tensor.name == name)
        return self._bytes[name] / rows

    def attention(self, step: Step) -> Cost:
        """K/V bytes read and operations of all layers: QK and PV, a multiplication and an addition each.

        A layer reads the K/V that its rows can see once; one without its own reads another layer's.
        """
        spec, end = self._spec, step.depth + step.rows
        kv_bytes = operations = 0.0
        for layer in spec.layers:
            a, pool = layer.attention, spec.pool_of_layer[layer.index]
            rows = min(step.rows, step.logit_rows) if self._is_tail(layer.index) else step.rows
            if rows:
                seen = end if a.window is None else min(end, a.window + rows - 1)
                kv_bytes += self._kv[pool] / len(spec.pools[pool].layers) * seen
                operations += 4.0 * a.num_heads * a.head_dim * _pairs(end - rows, end, a.window)
        return Cost(0.0, kv_bytes * step.sequences, operations * step.sequences)


def _pairs(first: int, stop: int, window: int | None) -> int:
    """How many positions the rows first .. stop-1 see in all: row t sees t + 1, at most the window."""
    edge = stop if window is None else min(max(window, first), stop)  # rows before it see all their past
    return (first + 1 + edge) * (edge - first) // 2 + (stop - edge) * (window or 0)
