"""How fast this machine reads memory and multiplies: with the engine's own kernels, in about a second.

Unlike probe.py, which asks numpy what a machine allows, this asks the kernels what they reach, format by
format, without a model. For another machine, of which only memory and int8 rates are known, the kernels'
rates follow from those. Used by speed.py.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from gemstead.backend.native.library import address, check, library
from gemstead.backend.native.packing import PLAIN, kind_of, packed_bytes
from gemstead.machine.memory import available_bytes
from gemstead.machine.probe import memory_rate
from gemstead.weights import formats
from gemstead.weights.packed_file import Bytes

_COLUMNS = 2048
_CACHED_ROWS, _TOKENS = (
    1040,
    256,
)  # a product that stays in the processor's caches; no power of two: results a
# page apart would all fall on the same lines of the first cache
_READ_BYTES = 128 << 20  # a matrix that does not
_MOST_SHARE = 8  # of the available memory, a probe takes at most one part in so many
_LEAST_S = 0.02  # a probe repeats until it has taken this long
_ROUNDS = 3  # of which the best counts: what the machine can do, not what others left of it just now
_STRIP = 16  # rows

# What the kernels reach, format by format: reading, as a part of the memory's rate; multiplying, as a part of
# q4_0's rate. For machines that cannot be asked. Medians of six runs of measured_rates on two Zen 3 cores
# (AVX2), nothing else running, 2026-11-26; f32 was not measured and stands as bf16.
TYPICAL: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "q4_0": (0.98, 1.0),
        "q4_k": (0.95, 0.84),
        "q6_k": (0.92, 0.60),
        "q8_0": (1.0, 0.61),
        "bf16": (0.98, 0.37),
        "f32": (0.98, 0.37),
    }
)


@dataclass(frozen=True, slots=True)
class KernelRates:
    """What one format's kernel reaches: bytes of weights read a second, operations a second."""

    bytes_s: float
    operations_s: float

    def better(self, other: KernelRates | None) -> KernelRates:
        """The larger of both rates."""
        if other is None:
            return self
        return KernelRates(max(self.bytes_s, other.bytes_s), max(self.operations_s, other.operations_s))


@dataclass(frozen=True)
class Rates:
    """What a machine reaches: memory read a second, int8 operations a second, and the kernels by format."""

    bytes_s: float
    int8_s: float
    kernels: Mapping[str, KernelRates]

    def kernel(self, format_name: str) -> KernelRates:
        """The rates of the kernel that reads this format."""
        kind = kind_of(format_name)
        known = kind if kind in self.kernels else "bf16" if kind in PLAIN else "q8_0"
        return self.kernels[known]


def derived_rates(bytes_s: float, int8_s: float) -> Rates:
    """The rates of a machine of which only these two are known."""
    kernels = {
        name: KernelRates(bytes_s * reading, int8_s * multiplying)
        for name, (reading, multiplying) in TYPICAL.items()
    }
    return Rates(bytes_s, int8_s, kernels)


def measured_rates(threads: int) -> Rates:
    """Ask this machine; BackendError where the native engine is not built."""
    library()
    size = max(1 << 20, min(_READ_BYTES, available_bytes() // _MOST_SHARE))
    memory = memory_rate(threads, 2 * size)
    kernels: dict[str, KernelRates] = {}
    for _ in range(_ROUNDS):  # one format after the other, so that a busy moment falls on all alike
        for name in TYPICAL:
            if name != "f32":
                kernels[name] = _kernel_rates(name, threads, size).better(kernels.get(name))
    return Rates(memory, kernels["q4_0"].operations_s, kernels)


def _kernel_rates(name: str, threads: int, size: int) -> KernelRates:
    rows = max(_CACHED_ROWS, size // _row_bytes(name) // _STRIP * _STRIP)
    matrix = _matrix(name, rows)
    read_s = _seconds(name, matrix, rows, 1, threads)
    multiply_s = _seconds(name, matrix, _CACHED_ROWS, _TOKENS, threads)
    return KernelRates(rows * _row_bytes(name) / read_s, 2.0 * _CACHED_ROWS * _COLUMNS * _TOKENS / multiply_s)


def _row_bytes(name: str) -> int:
    if name in PLAIN:
        return formats.get(name).row_bytes(_COLUMNS)
    return packed_bytes(name, (_STRIP, _COLUMNS)) // _STRIP


def _matrix(name: str, rows: int) -> Bytes:
    """So many rows in the kernel's order: one strip of random values, over and over."""
    values = np.random.default_rng(0).standard_normal((_STRIP, _COLUMNS), dtype=np.float32)
    strip = formats.get(name).pack(values).reshape(-1)
    if name not in PLAIN:
        packed = np.empty(packed_bytes(name, (_STRIP, _COLUMNS)), np.uint8)
        code = formats.get(name).ggml_type
        check(library().gs_pack(code, address(strip), _STRIP, _COLUMNS, address(packed)), f"packing {name}")
        strip = packed
    return np.tile(strip, -(-rows // _STRIP))


def _seconds(name: str, matrix: Bytes, rows: int, tokens: int, threads: int) -> float:
    """The time of one product of the first `rows` rows with so many tokens; the first one is not counted."""
    x = np.random.default_rng(1).standard_normal((tokens, _COLUMNS), dtype=np.float32)
    y = np.empty((tokens, rows), np.float32)

    def run(times: int) -> float:
        start = time.perf_counter()
        status = library().gs_multiply(
            formats.get(name).ggml_type,
            address(matrix),
            rows,
            _COLUMNS,
            address(x),
            tokens,
            threads,
            times,
            address(y),
        )
        check(status, f"multiplying {name}")
        return time.perf_counter() - start

    once = run(1)
    times = max(1, min(1000, int(_LEAST_S / max(once, 1e-6))))
    return run(times) / times
