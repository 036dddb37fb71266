"""The memory of keys and values, in pages, and the rows of a batch that read and write it.

The engine decides which page holds which positions (engine/pages.py) and hands page tables in; this
module turns (sequence, position) into a place in an array. It never frees or moves a page.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gemstead.backend.base import Batch, Floats, Ints, SequenceRows
from gemstead.errors import CapacityError
from gemstead.spec.model import ModelSpec

RELEASED = -1  # in a page table: a sliding window has left this page behind


@dataclass(frozen=True, slots=True)
class Span:
    """Rows start..stop-1 of the forward belong to this sequence."""

    sequence: SequenceRows
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows a forward is working on: their positions, and which sequence owns which."""

    positions_T: Ints
    spans: tuple[Span, ...]

    @classmethod
    def of(cls, batch: Batch) -> Rows:
        """All rows of a batch, each sequence's at consecutive positions."""
        positions_T = np.empty(len(batch.token_ids), np.int32)
        spans = []
        for s in batch.sequences:
            positions_T[s.start : s.start + s.count] = np.arange(s.position, s.position + s.count)
            spans.append(Span(s, s.start, s.start + s.count))
        return cls(positions_T, tuple(spans))

    def keep(self, rows_R: Ints) -> Rows:
        """Only the given rows (ascending), renumbered from 0."""
        spans = []
        for span in self.spans:
            first, last = (int(n) for n in np.searchsorted(rows_R, (span.start, span.stop)))
            if first < last:
                spans.append(Span(span.sequence, first, last))
        return Rows(self.positions_T[rows_R], tuple(spans))


class PagedCache:
    """K and V of every KV-owning layer: arrays [pages, page_tokens, K, H] in float32."""

    def __init__(self, spec: ModelSpec, num_pages: tuple[int, ...], page_tokens: int) -> None:
        if len(num_pages) != len(spec.pools):
            raise ValueError(f"{len(num_pages)} page counts for {len(spec.pools)} page pools of {spec.name}")
        self.page_tokens = page_tokens
        self._pool_of_layer, self._pools = spec.pool_of_layer, spec.pools
        self._keys: dict[int, Floats] = {}
        self._values: dict[int, Floats] = {}
        for pool, pages in zip(spec.pools, num_pages, strict=True):
            shape = (pages, page_tokens, pool.num_kv_heads, pool.head_dim)
            for layer in pool.layers:
                self._keys[layer] = _memory(shape)
                self._values[layer] = _memory(shape)

    @property
    def size_bytes(self) -> int:
        """Memory held when every page has been used; an untouched page costs nothing yet."""
        return sum(a.nbytes for a in (*self._keys.values(), *self._values.values()))

    def read_page(self, pool: int, page: int) -> bytes:
        """All layers' K and V of a page, one behind the other."""
        return b"".join(array[page].tobytes() for array in self._arrays(pool))

    def write_page(self, pool: int, page: int, data: bytes) -> None:
        """Put back what read_page gave."""
        values, arrays = np.frombuffer(data, np.float32), self._arrays(pool)
        for array, part in zip(arrays, values.reshape(len(arrays), *arrays[0].shape[1:]), strict=True):
            array[page] = part

    def _arrays(self, pool: int) -> list[Floats]:
        return [halves[layer] for layer in self._pools[pool].layers for halves in (self._keys, self._values)]

    def write(self, layer: int, rows: Rows, k_TKH: Floats, v_TKH: Floats) -> None:
        """Store the K/V of all rows at their positions."""
        for span in rows.spans:
            positions = rows.positions_T[span.start : span.stop]
            pages = self._table(layer, span.sequence)[positions // self.page_tokens]
            assert pages.min() != RELEASED, "the engine asked to write into a released page"
            slots = positions % self.page_tokens
            self._keys[layer][pages, slots] = k_TKH[span.start : span.stop]
            self._values[layer][pages, slots] = v_TKH[span.start : span.stop]

    def read(self, layer: int, sequence: SequenceRows, first: int, last: int) -> tuple[Floats, Floats]:
        """K and V of positions first..last of a sequence, [S, K, H] each."""
        size = self.page_tokens
        pages = self._table(layer, sequence)[first // size : last // size + 1]
        assert pages.min() != RELEASED, "a row reads a page its window has not left behind"
        begin, end = first % size, first % size + last + 1 - first
        keys, values = self._keys[layer], self._values[layer]
        k_SKH = keys[pages].reshape(-1, *keys.shape[2:])[begin:end]
        return k_SKH, values[pages].reshape(-1, *values.shape[2:])[begin:end]

    def held_from(self, layer: int, sequence: SequenceRows, first: int) -> int:
        """The first position >= `first` whose page has not been released."""
        pages = self._table(layer, sequence)[first // self.page_tokens :]
        released = int(np.argmax(pages != RELEASED))
        return first if not released else (first // self.page_tokens + released) * self.page_tokens

    def _table(self, layer: int, sequence: SequenceRows) -> Ints:
        return sequence.page_tables[self._pool_of_layer[layer]]


def _memory(shape: tuple[int, ...]) -> Floats:
    """Uncommitted memory: the system gives it page by page as it is written."""
    try:
        return np.zeros(shape, np.float32)
    except MemoryError as error:
        wanted = 4 * int(np.prod(shape, dtype=np.int64))
        raise CapacityError(
            f"reserving {wanted:,} bytes for K/V failed; give the engine less memory or a shorter context"
        ) from error
