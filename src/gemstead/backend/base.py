"""The boundary between the engine and whatever computes a forward: five methods, one batch.

A backend holds the weights and the memory of the K/V pages; it decides nothing. The engine above
owns which page belongs to whom (engine/pages.py) and never touches a page's content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from gemstead.spec.model import DrafterSpec, ModelSpec
from gemstead.types import SamplingParams, TokenLogprob

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Choice:
    """What one token is chosen by from a row of logits [V].

    Penalties fall on `seen_ids`, the tokens of prompt and output (`seen_counts`: how often the output has
    each), `biases` are added to `biased_ids`, then all but the `allowed` tokens (bit i % 32 of word i // 32;
    None: all are) and the `forbidden_ids` go; `u` in [0, 1) is where the draw falls.
    """

    params: SamplingParams
    u: float
    allowed: Words | None
    seen_ids: Ints
    seen_counts: Ints
    biased_ids: Ints
    biases: Floats
    forbidden_ids: Ints


LEAST_TEMPERATURE = 1e-6  # of a draw: below it, differences of float32 logits overflow
Choose = Callable[[Floats, Choice], tuple[int, TokenLogprob | None]]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do and what its K/V costs; constant after opening.

    `kv_bytes_per_token[p]` is the memory of one token in page pool p, all of that pool's layers.
    `free_bytes` is what the backend's device has left for K/V beside the weights; None where that is
    the machine's own memory. `adapters` are the names it was opened with, in the order of SequenceRows'
    numbers, each with a hash of what it holds. `choose` is the backend's own way from a row of its logits
    to a token, by engine/choosing.py's rules; None: it has none. For one thread at a time.
    """

    name: str
    spec: ModelSpec
    drafter: DrafterSpec | None
    kv_bytes_per_token: tuple[int, ...]
    weights_bytes: int
    media: frozenset[str] = frozenset()
    free_bytes: int | None = None
    adapters: Mapping[str, bytes] = field(default_factory=dict)
    choose: Choose | None = None


class Cache(Protocol):
    """Memory for K/V pages, made by `Backend.new_cache`; opaque to the engine."""

    @property
    def size_bytes(self) -> int:
        """Memory held."""
        ...

    def read_page(self, pool: int, page: int) -> bytes:
        """K and V of all of a pool's layers in one page; as long for every page of the pool."""
        ...

    def write_page(self, pool: int, page: int, data: bytes) -> None:
        """Put back what read_page of an equal cache gave; ValueError for another length."""
        ...


@dataclass(frozen=True, slots=True)
class SequenceRows:
    """The rows of one sequence in a batch.

    Rows start .. start+count-1 of the batch are its tokens at positions position ..
    position+count-1. `page_tables[p]` lists, for page pool p, the page of each block of
    `page_tokens` positions from 0 up to the last row's position; -1 marks a page that a sliding
    window has left behind and no row here can see. `adapter` says what is added to the weights for
    these rows: 0 nothing, n the terms of the n-th adapter the backend was opened with. A drafter step has
    none.
    """

    start: int
    count: int
    position: int
    page_tables: tuple[Ints, ...]
    adapter: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """One forward over rows of several sequences.

    token_ids [T]; logit_rows [R], ascending row numbers whose logits are wanted: other rows stop
    after the last KV-owning layer. With `want_hidden` the final-norm hidden state of those rows is
    returned too (a drafter's input); without `want_logits` nothing but that is computed of them, and
    their logits have no columns.

    `hidden_TD` set makes this a drafter step: every sequence has one row, its position is that of
    the last token in the target's cache, nothing is written, and the drafter reads
    [embedding of token_ids ; hidden]. Its sliding layers look back at the `window` positions before
    its own, one more than the target's, as far as those pages are still held.
    """

    token_ids: Ints
    sequences: tuple[SequenceRows, ...]
    logit_rows: Ints
    cache: Cache
    want_hidden: bool = False
    hidden_TD: Floats | None = None
    want_logits: bool = True


@dataclass(frozen=True, slots=True)
class Logits:
    """values_RV: float32, after the final softcap. hidden_RD: float32 (see Batch), or None.

    For a drafter step hidden_RD is the projected state to feed to the next draft step.
    """

    values_RV: Floats
    hidden_RD: Floats | None = None


@dataclass(frozen=True, slots=True)
class Media:
    """One image or sound, prepared by media/: model-ready values and their kind."""

    kind: str
    values: Floats


@runtime_checkable
class Backend(Protocol):
    """How a forward is computed. Not thread-safe: the engine calls it from one thread at a time."""

    def capabilities(self) -> Capabilities:
        """What this backend holds and what its K/V costs."""
        ...

    def new_cache(self, num_pages: tuple[int, ...], page_tokens: int) -> Cache:
        """Memory for `num_pages[p]` pages of `page_tokens` tokens in each page pool p."""
        ...

    def encode(self, media: Media) -> Floats:
        """Soft tokens [n, D] of an image or a sound; InputError when the model has no such sense."""
        ...

    def forward(self, batch: Batch) -> Logits:
        """Write the K/V of every row, return the logits of `logit_rows`."""
        ...

    def close(self) -> None:
        """Let go of weights and caches; further calls are errors."""
        ...
