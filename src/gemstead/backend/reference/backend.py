"""The reference backend: Gemma 4 in numpy float32, written to be read, exact under batching.

A sequence gets the same bits whoever shares its batch and however its prompt is cut, because every
product and every sum is over one row alone. Text only: it has no senses. Called by the engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gemstead.backend.base import Batch, Cache, Capabilities, Floats, Logits, Media
from gemstead.backend.reference.adapters import Adapted, unpack
from gemstead.backend.reference.blas import limit_threads
from gemstead.backend.reference.cache import PagedCache
from gemstead.backend.reference.drafter import check_pair, draft
from gemstead.backend.reference.model import forward
from gemstead.backend.reference.weights import Weights
from gemstead.errors import BackendError, InputError
from gemstead.spec.model import DrafterSpec, ModelSpec

if TYPE_CHECKING:
    from gemstead.weights.adapter import Adapter
    from gemstead.weights.store import Store


class ReferenceBackend:
    """The `Backend` of backend/base.py in numpy. It borrows the stores: who opened them closes them."""

    def __init__(
        self,
        store: Store,
        drafter: Store | None = None,
        threads: int | None = None,
        adapters: Mapping[str, Adapter] | None = None,
    ) -> None:
        """`threads` is BLAS's; None means 1, as waking a second thread costs more than a row's work.

        BackendError when the drafter does not fit the model.
        """
        if not isinstance(store.spec, ModelSpec):
            raise BackendError(f"{store.spec.name} is a drafter: open the model it drafts for, with drafter=")
        self._spec = store.spec
        self._drafter_spec: DrafterSpec | None = None
        self._drafter_weights: Weights | None = None
        if drafter is not None:
            if not isinstance(drafter.spec, DrafterSpec):
                raise BackendError(f"{drafter.spec.name} is a model, not a drafter: give a drafter or none")
            check_pair(self._spec, drafter.spec)
            self._drafter_spec, self._drafter_weights = drafter.spec, Weights(drafter)
        self._weights = Weights(store)
        self._bytes = store.total_bytes + (drafter.total_bytes if drafter is not None else 0)
        self._digests = {name: adapter.digest for name, adapter in (adapters or {}).items()}
        self._adapters = [unpack(adapter) for adapter in (adapters or {}).values()]
        self._bytes += sum(term.nbytes for terms in self._adapters for term in terms.values())
        self._closed = False
        limit_threads(threads or 1)

    def capabilities(self) -> Capabilities:
        """What this backend holds and what its K/V costs."""
        pools = self._spec.pools
        return Capabilities(
            name="reference",
            spec=self._spec,
            drafter=self._drafter_spec,
            kv_bytes_per_token=tuple(8 * len(p.layers) * p.num_kv_heads * p.head_dim for p in pools),
            weights_bytes=self._bytes,
            adapters=self._digests,
        )

    def new_cache(self, num_pages: tuple[int, ...], page_tokens: int) -> PagedCache:
        """K/V memory in float32; CapacityError when the system has not that much."""
        return PagedCache(self._spec, num_pages, page_tokens)

    def encode(self, media: Media) -> Floats:
        """InputError: this backend reads text only."""
        raise InputError(
            f"the reference backend cannot read {media.kind}: it reads text only; leave the part out"
        )

    def forward(self, batch: Batch) -> Logits:
        """One forward, or one draft step when the batch carries hidden states."""
        if self._closed:
            raise BackendError("forward on a closed backend: open the model again")
        cache = _own(batch.cache)
        if batch.hidden_TD is None:
            return forward(Adapted.of(self._weights, self._adapters, batch), self._spec, batch, cache)
        if self._drafter_spec is None or self._drafter_weights is None:
            raise BackendError(f"a draft step was asked, but {self._spec.name} was opened without a drafter")
        return draft(self._drafter_weights, self._drafter_spec, self._weights, self._spec, batch, cache)

    def close(self) -> None:
        """Let go of the unpacked weights; a second close does nothing."""
        self._closed = True
        self._weights.close()
        self._adapters.clear()
        if self._drafter_weights is not None:
            self._drafter_weights.close()


def _own(cache: Cache) -> PagedCache:
    assert isinstance(cache, PagedCache), "a batch carries a cache made by new_cache of this backend"
    return cache
