"""Keys and values in pages, and the plan of who reads which of them in one forward.

The engine decides which page holds which positions; this module turns page tables into index
tensors, once per forward and page pool. It never frees or moves a page. Used by backend.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gemstead.backend.base import Batch, Ints, SequenceRows
from gemstead.backend.torch.attention import attend
from gemstead.backend.torch.layers import Rope, rope_table
from gemstead.errors import CapacityError
from gemstead.spec.model import AttentionSpec, ModelSpec

RELEASED = -1  # in a page table: a sliding window has left this page behind


class PagedCache:
    """K and V of every KV-owning layer: tensors [pages * page_tokens, K, H] on the model's device."""

    def __init__(
        self,
        spec: ModelSpec,
        num_pages: tuple[int, ...],
        page_tokens: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        assert len(num_pages) == len(spec.pools), "one page count per pool"
        self.page_tokens, self._pools = page_tokens, spec.pools
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}
        try:
            for pool, pages in zip(spec.pools, num_pages, strict=True):
                shape = (pages * page_tokens, pool.num_kv_heads, pool.head_dim)
                for layer in pool.layers:
                    self.keys[layer] = torch.zeros(shape, dtype=dtype, device=device)
                    self.values[layer] = torch.zeros(shape, dtype=dtype, device=device)
        except RuntimeError as error:  # torch's out-of-memory, on either device
            self.keys, self.values = {}, {}
            raise CapacityError(
                f"reserving {max(num_pages):,} pages of {page_tokens} tokens for K/V on {device} failed; "
                f"give the engine less memory or a shorter context"
            ) from error

    @property
    def size_bytes(self) -> int:
        """Memory held."""
        return sum(x.numel() * x.element_size() for x in (*self.keys.values(), *self.values.values()))

    def read_page(self, pool: int, page: int) -> bytes:
        """All layers' K and V of a page, one behind the other."""
        parts = (part.cpu().contiguous().view(torch.uint8) for part in self._parts(pool, page))
        return b"".join(part.numpy().tobytes() for part in parts)

    def write_page(self, pool: int, page: int, data: bytes) -> None:
        """Put back what read_page gave."""
        parts = self._parts(pool, page)
        size = parts[0].numel() * parts[0].element_size()
        if len(data) != size * len(parts):
            raise ValueError(f"a page of {len(data)} bytes; {size * len(parts)} are needed")
        for i, part in enumerate(parts):
            raw = torch.frombuffer(bytearray(data[i * size : (i + 1) * size]), dtype=part.dtype)
            part.copy_(raw.view(part.shape))

    def _parts(self, pool: int, page: int) -> list[Tensor]:
        rows = slice(page * self.page_tokens, (page + 1) * self.page_tokens)
        layers = self._pools[pool].layers
        return [halves[layer][rows] for layer in layers for halves in (self.keys, self.values)]


@dataclass(frozen=True, slots=True)
class Span:
    """The rows (numbers in the forward's own order) of one sequence, and their positions."""

    sequence: SequenceRows
    rows: Ints
    positions: Ints


def spans_of(batch: Batch, kept: Ints | None = None) -> list[Span]:
    """All rows of a batch by sequence; with `kept` (ascending) only those, renumbered from 0."""
    spans = []
    for s in batch.sequences:
        rows = np.arange(s.start, s.start + s.count, dtype=np.int32)
        positions = rows - s.start + s.position
        if kept is not None:
            first, last = np.searchsorted(kept, (s.start, s.start + s.count))
            positions = positions[kept[first:last] - s.start]
            rows = np.arange(first, last, dtype=np.int32)
        if len(rows):
            spans.append(Span(s, rows, positions))
    return spans


@dataclass(frozen=True, slots=True)
class Group:
    """Sequences with equally many rows, attended together.

    rows [B, t] of the forward; slots [B, S]: where each key lies in the cache; mask [B, 1, t, S].
    """

    rows: Tensor
    slots: Tensor
    mask: Tensor


def _group(spans: list[Span], pool: int, window: int | None, page_tokens: int, like: Tensor) -> Group:
    query = np.stack([span.positions for span in spans])[:, :, None]
    last = query[:, -1:, 0]
    first = np.zeros_like(last) if window is None else np.maximum(query[:, :1, 0] - window + 1, 0)
    key = first + np.arange((last - first).max() + 1, dtype=np.int32)
    blocks = np.minimum(key, last) // page_tokens
    pages = np.stack([s.sequence.page_tables[pool][b] for s, b in zip(spans, blocks, strict=True)])
    seen = (key[:, None] <= query) & (pages != RELEASED)[:, None]
    if window is not None:
        seen &= query - key[:, None] < window
    slots = np.where(pages == RELEASED, 0, pages).astype(np.int64) * page_tokens + key % page_tokens
    mask = torch.zeros(seen.shape, dtype=like.dtype)
    mask.masked_fill_(torch.from_numpy(~seen), -torch.inf)
    rows = np.stack([span.rows for span in spans]).astype(np.int64)
    found = (torch.from_numpy(rows), torch.from_numpy(slots), mask[:, None])
    return Group(*(x.to(like.device) for x in found))


class Rows:
    """The rows a forward works on, and what follows from them, once per page pool or kind of attention.

    Masks and angles take the dtype and the device of `like`.
    """

    def __init__(self, spans: list[Span], cache: PagedCache, like: Tensor) -> None:
        self.spans, self.page_tokens, self.like = spans, cache.page_tokens, like
        positions = np.concatenate([s.positions for s in spans]) if spans else np.zeros(0, np.int32)
        self.positions_T = torch.from_numpy(positions).to(like.device)
        self._groups: dict[tuple[int, int | None], list[Group]] = {}
        self._ropes: dict[AttentionSpec, Rope] = {}
        self._slots: dict[int, Tensor] = {}

    def rope(self, a: AttentionSpec) -> Rope:
        """cos and sin of every row."""
        if a not in self._ropes:
            self._ropes[a] = rope_table(a, self.positions_T, self.like.dtype)
        return self._ropes[a]

    def groups(self, pool: int, window: int | None) -> list[Group]:
        """Who reads what of a pool: a query at position p sees p - window + 1 .. p."""
        if (pool, window) not in self._groups:
            by_count: dict[int, list[Span]] = {}
            for span in self.spans:
                by_count.setdefault(len(span.rows), []).append(span)
            self._groups[pool, window] = [
                _group(same, pool, window, self.page_tokens, self.like) for same in by_count.values()
            ]
        return self._groups[pool, window]

    def write_slots(self, pool: int) -> Tensor:
        """Where each row's own key goes in the cache, [T]."""
        if pool not in self._slots:
            slots = []
            for span in self.spans:
                pages = span.sequence.page_tables[pool][span.positions // self.page_tokens].astype(np.int64)
                assert pages.min() != RELEASED, "the engine asked to write into a released page"
                slots.append(pages * self.page_tokens + span.positions % self.page_tokens)
            self._slots[pool] = torch.from_numpy(np.concatenate(slots)).to(self.like.device)
        return self._slots[pool]


def attend_pages(q_TNH: Tensor, keys: Tensor, values: Tensor, groups: list[Group]) -> Tensor:
    """What every row gathers [T, N, H] from the pages its group may see."""
    out_TNH = torch.empty_like(q_TNH)
    for g in groups:
        out_TNH[g.rows] = attend(q_TNH[g.rows], keys[g.slots], values[g.slots], g.mask)
    return out_TNH
