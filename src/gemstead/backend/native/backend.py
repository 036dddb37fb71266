"""The native backend: fills the core's structs from a batch and calls it. The arithmetic is in native/.

A row gets the same bits whoever shares its batch, however its prompt is cut and however many threads
run. Text only. Called by the engine.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gemstead.backend.base import Batch, Cache, Capabilities, Floats, Logits, Media
from gemstead.backend.native import layout
from gemstead.backend.native.adapters import AdapterTerms
from gemstead.backend.native.choosing import NativeChooser
from gemstead.backend.native.cores import usable_cores
from gemstead.backend.native.footprint import held_weights
from gemstead.backend.native.library import address, check, ints, library
from gemstead.backend.native.weights import DrafterWeights, Weights
from gemstead.backend.reference.drafter import check_pair
from gemstead.errors import BackendError, InputError
from gemstead.spec.model import DrafterSpec, ModelSpec

if TYPE_CHECKING:
    from gemstead.weights.adapter import Adapter
    from gemstead.weights.store import Store


# How K/V may be kept: GS_KV_... of gemstead.h, and bytes of 32 values.
_KV = {"f16": (0, 64), "q8_0": (1, 34)}


class NativeCache:
    """K/V pages inside the core."""

    def __init__(self, model: ctypes.c_void_p, num_pages: tuple[int, ...], page_tokens: int, kv: str) -> None:
        self._handle = ctypes.c_void_p()
        pages, code = np.array(num_pages, np.int32), _KV[kv][0]
        status = library().gs_new_cache(model, ints(pages), page_tokens, code, ctypes.byref(self._handle))
        check(status, "reserving memory for K/V")
        weakref.finalize(self, library().gs_close_cache, self._handle).atexit = False

    @property
    def handle(self) -> ctypes.c_void_p:
        """What the core knows it by."""
        return self._handle

    @property
    def size_bytes(self) -> int:
        """Memory held when every page has been used; an untouched page costs nothing yet."""
        return int(library().gs_cache_bytes(self._handle))

    def read_page(self, pool: int, page: int) -> bytes:
        """What a page keeps of all layers, one behind the other."""
        data = ctypes.create_string_buffer(self._page_bytes(pool))
        check(library().gs_read_page(self._handle, pool, page, data), "reading a page")
        return data.raw

    def write_page(self, pool: int, page: int, data: bytes) -> None:
        """Put back what read_page gave."""
        if len(data) != self._page_bytes(pool):
            raise ValueError(f"a page of {len(data)} bytes; {self._page_bytes(pool)} are needed")
        check(library().gs_write_page(self._handle, pool, page, data), "writing a page")

    def _page_bytes(self, pool: int) -> int:
        return int(library().gs_page_bytes(self._handle, pool))


class NativeBackend:
    """The `Backend` of backend/base.py in C++. It borrows the store: who opened it closes it."""

    media: frozenset[str] = frozenset()  # what encode() can read

    def __init__(
        self,
        store: Store,
        drafter: Store | None = None,
        threads: int | None = None,
        kv: str = "f16",
        adapters: Mapping[str, Adapter] | None = None,
    ) -> None:
        """`threads` None: every physical core this process may use. `kv`: f16 or q8_0."""
        if not isinstance(store.spec, ModelSpec):
            raise BackendError(f"{store.spec.name} is a drafter: open the model it drafts for")
        reason = unsuited(store.spec, kv)
        if reason is not None:
            raise BackendError(f"the native backend {reason}; choose the backend reference or torch")
        self._spec, self._kv, self._choose = store.spec, kv, NativeChooser()
        self._bytes = held_weights(store.spec, store.formats).resident
        count = threads or usable_cores()
        self._weights: Weights | None = Weights(store, count)
        self._model = ctypes.c_void_p()
        status = library().gs_open(
            ctypes.byref(self._weights.spec), self._weights.layers, count, ctypes.byref(self._model)
        )
        check(status, f"opening {store.spec.name}")
        self._drafter: DrafterWeights | None = None
        self._drafter_spec: DrafterSpec | None = None
        if drafter is not None:
            self._add_drafter(drafter, count)
        self._adapters: dict[str, AdapterTerms] = {}
        self._digests = {name: adapter.digest for name, adapter in (adapters or {}).items()}
        for name, adapter in (adapters or {}).items():
            self._add_adapter(name, AdapterTerms(adapter))

    def _add_adapter(self, name: str, adapter: AdapterTerms) -> None:
        self._adapters[name] = adapter
        self._bytes += adapter.nbytes
        status = library().gs_add_adapter(self._model, adapter.terms, len(adapter.terms))
        check(status, f"opening the adapter {name}")

    def _add_drafter(self, store: Store, threads: int) -> None:
        if not isinstance(store.spec, DrafterSpec):
            raise BackendError(
                f"{store.spec.name} is no drafter: open it as the model, or give its assistant"
            )
        check_pair(self._spec, store.spec)
        self._bytes += store.total_bytes
        self._drafter, self._drafter_spec = DrafterWeights(store, self._spec, threads), store.spec
        status = library().gs_add_drafter(
            self._model, ctypes.byref(self._drafter.drafter), self._drafter.layers
        )
        check(status, f"opening {store.spec.name}")

    def capabilities(self) -> Capabilities:
        """What this backend holds and what its K/V costs; tables that are read row by row are not held."""
        return Capabilities(
            name="native",
            spec=self._spec,
            drafter=self._drafter_spec,
            kv_bytes_per_token=kv_bytes_per_token(self._spec, self._kv),
            weights_bytes=self._bytes,
            adapters=self._digests,
            media=self.media,
            choose=self._choose,
        )

    def new_cache(self, num_pages: tuple[int, ...], page_tokens: int) -> NativeCache:
        """K/V memory; CapacityError when the system has not that much."""
        self._check_open()
        return NativeCache(self._model, num_pages, page_tokens, self._kv)

    def encode(self, media: Media) -> Floats:
        """InputError: this backend reads text only."""
        raise InputError(
            f"the native backend cannot read {media.kind}: it reads text only; leave the part out"
        )

    def forward(self, batch: Batch) -> Logits:
        """One forward over the batch."""
        self._check_open()
        if batch.hidden_TD is not None:
            return self._draft(batch, batch.hidden_TD)
        rows, width = len(batch.logit_rows), self._spec.hidden_size
        values_RV = np.empty((rows, self._spec.vocab_size if batch.want_logits else 0), np.float32)
        hidden_RD = np.empty((rows, width), np.float32) if batch.want_hidden else None
        struct, kept = _struct(batch)
        hidden = None if hidden_RD is None else address(hidden_RD)
        logits = address(values_RV) if batch.want_logits else None
        status = library().gs_forward(
            self._model, _own(batch.cache).handle, ctypes.byref(struct), logits, hidden
        )
        del kept
        check(status, "a forward")
        return Logits(values_RV, hidden_RD)

    def _draft(self, batch: Batch, hidden_TD: Floats) -> Logits:
        if self._drafter_spec is None:
            raise BackendError(f"a draft step was asked, but {self._spec.name} was opened without a drafter")
        rows = len(batch.logit_rows)
        values_RV = np.empty((rows, self._drafter_spec.vocab_size), np.float32)
        next_RD = np.empty((rows, self._spec.hidden_size), np.float32)
        given_TD = np.ascontiguousarray(hidden_TD, np.float32)
        struct, kept = _struct(batch)
        status = library().gs_draft(
            self._model,
            _own(batch.cache).handle,
            ctypes.byref(struct),
            address(given_TD),
            address(values_RV),
            address(next_RD),
        )
        del kept
        check(status, "a draft step")
        return Logits(values_RV, next_RD)

    def close(self) -> None:
        """End the threads and let go of packed weights; a second close does nothing."""
        if self._model:
            library().gs_close(self._model)
            for structs in (self._weights, self._drafter):
                if structs is not None:
                    structs.close()
            self._model, self._weights, self._drafter = ctypes.c_void_p(), None, None
            self._adapters.clear()

    def _check_open(self) -> None:
        if not self._model:
            raise BackendError("forward on a closed backend: open the model again")


def kv_bytes_per_token(spec: ModelSpec, kv: str) -> tuple[int, ...]:
    """The memory of a token in each page pool: V, and K unless it is made from V."""
    return tuple(
        (1 if p.v_from_k else 2) * len(p.layers) * p.num_kv_heads * p.head_dim * _KV[kv][1] // 32
        for p in spec.pools
    )


def unsuited(spec: ModelSpec, kv: str = "f16") -> str | None:
    """Why this backend cannot run the model, as the end of a sentence; None: it can."""
    if len(spec.pools) > layout.MAX_POOLS:
        return f"knows {layout.MAX_POOLS} kinds of K/V, and {spec.name} has {len(spec.pools)}"
    block = 8 if kv == "f16" else 32
    odd = sorted({p.head_dim for p in spec.pools if p.head_dim % block})
    if odd:
        keeping = "" if kv == "f16" else f" to keep K/V in {kv}"
        return f"needs heads of a multiple of {block}{keeping}, and {spec.name} has some of {odd[0]}"
    return None


def _struct(batch: Batch) -> tuple[layout.Batch, list[Any]]:
    """The batch as the core reads it, and the arrays it points into."""
    kept: list[Any] = [np.ascontiguousarray(x, np.int32) for x in (batch.token_ids, batch.logit_rows)]
    sequences = (layout.Sequence * len(batch.sequences))()
    for struct, rows_of in zip(sequences, batch.sequences, strict=True):
        struct.start, struct.count, struct.position = rows_of.start, rows_of.count, rows_of.position
        struct.adapter = rows_of.adapter
        for pool, table in enumerate(rows_of.page_tables):
            kept.append(np.ascontiguousarray(table, np.int32))
            struct.page_tables[pool] = ints(kept[-1])
    counts = len(batch.token_ids), len(sequences), len(batch.logit_rows)
    return layout.Batch(*counts, 0, ints(kept[0]), sequences, ints(kept[1])), [*kept, sequences]


def _own(cache: Cache) -> NativeCache:
    assert isinstance(cache, NativeCache), "a batch carries a cache made by new_cache of this backend"
    return cache
