"""A weight store that lives in memory: random tensors of any spec, for tests that need no file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gemstead.spec.model import DrafterSpec, ModelSpec
from gemstead.spec.tensors import drafter_tensors, text_tensors


@dataclass(frozen=True)
class MemoryTensor:
    """One tensor, with the reading calls of weights.store.Tensor."""

    name: str
    values: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def nbytes(self) -> int:
        return self.values.nbytes

    def float32(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        return self.values[start:stop].astype(np.float32)

    def rows(self, index: np.ndarray) -> np.ndarray:
        return self.values[index].astype(np.float32)

    def int64(self) -> np.ndarray:
        return self.values


class MemoryStore:
    """Random weights of a spec. `scale` is the spread of matrices; norms lie around 1."""

    def __init__(self, spec: ModelSpec | DrafterSpec, seed: int = 0, scale: float = 0.05) -> None:
        rng = np.random.default_rng(seed)
        wanted = text_tensors(spec) if isinstance(spec, ModelSpec) else drafter_tensors(spec)
        self.spec = spec
        self.tensors = {}
        for t in wanted:
            if t.integer:
                values = rng.permutation(t.shape[0]).astype(np.int64)
            elif len(t.shape) == 1:
                values = 1 + 0.2 * rng.standard_normal(t.shape, dtype=np.float32)
            else:
                values = scale * rng.standard_normal(t.shape, dtype=np.float32)
            self.tensors[t.name] = MemoryTensor(t.name, values)

    @property
    def total_bytes(self) -> int:
        return sum(t.nbytes for t in self.tensors.values())

    def close(self) -> None:
        self.tensors = {}
