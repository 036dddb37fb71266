"""Who holds which page of K/V, which prefixes are kept for reuse, how many pages there are.

Bookkeeping only: the bytes are the backend's. Never hands out more pages than it was made with; a
shared page is never written. scheduler.py asks it for room, engine.py advances it, backends read
the tables.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Sequence as Listing
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

import numpy as np

from gemstead.backend.base import Ints
from gemstead.engine.parking import Parking
from gemstead.errors import ConfigError
from gemstead.spec.model import PoolSpec

LEFT_BEHIND = -1


def blocks_of(tokens: int, page_tokens: int) -> int:
    """Pages that `tokens` positions from 0 take in a pool without a window."""
    return -(-tokens // page_tokens)


@dataclass(frozen=True, slots=True)
class PageBudget:
    """What the pages are cut from: the ceiling in bytes and the shape of the work to hold.

    `span_tokens` is how many rows beyond its window one sequence may have alive in one step: the
    longest chunk of a prompt plus drafted and kept-back rows.
    """

    memory_bytes: int
    page_tokens: int
    context_tokens: int
    max_sequences: int
    span_tokens: int


def page_counts(
    pools: Listing[PoolSpec], bytes_per_token: Listing[int], budget: PageBudget
) -> tuple[int, ...]:
    """Pages per pool under the ceiling: one sequence as long as possible first, then more of them.

    A pool with a window needs few pages however long the text is: as many sequences as a quarter of
    the memory allows get theirs, at least one; the rest once a whole context fits. ConfigError when
    not even one page of each pool fits.
    """
    page_bytes = [cost * budget.page_tokens for cost in bytes_per_token]
    windows = [None if p.window is None else window_blocks(p.window, budget) for p in pools]
    context_blocks = blocks_of(budget.context_tokens, budget.page_tokens)

    def cost(counts: Listing[int]) -> int:
        return sum(count * size for count, size in zip(counts, page_bytes, strict=True))

    together = budget.memory_bytes // 4 // max(1, cost([w or 0 for w in windows]))
    together = max(1, min(together, budget.max_sequences))

    def counts_for(blocks: int) -> tuple[int, ...]:
        beyond = max(0, blocks - context_blocks)
        return tuple(
            blocks if w is None else min(blocks, together * w + beyond, budget.max_sequences * w)
            for w in windows
        )

    low, high = 0, context_blocks * budget.max_sequences
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(counts_for(middle)) <= budget.memory_bytes else (low, middle - 1)
    if low == 0:
        raise ConfigError(
            f"memory of {budget.memory_bytes:,} bytes for K/V holds no page: one page of "
            f"{budget.page_tokens} tokens in every pool takes {sum(page_bytes):,} bytes; give more memory"
        )
    return counts_for(low)


def window_blocks(window: int, budget: PageBudget) -> int:
    """Pages one sequence can need at once in a pool with this window (two for ragged ends)."""
    return blocks_of(window + budget.span_tokens, budget.page_tokens) + 2


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """The pages of one pool: free + live + kept = total. Kept ones are evicted when room is needed."""

    total: int
    free: int
    live: int
    kept: int


class PagePool:
    """The pages of one pool: free, live (counted references) or kept under a key for reuse.

    `before_evicting` sees a kept page and its key while its contents are still there.
    """

    def __init__(self, total: int, before_evicting: Callable[[bytes, int], object] | None = None) -> None:
        self.total = total
        self._before_evicting = before_evicting
        self._free = list(range(total - 1, -1, -1))
        self._references = [0] * total
        self._page_of: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}
        self._kept: OrderedDict[int, None] = OrderedDict()  # first = evicted first

    @property
    def available(self) -> int:
        """Pages `take` can still give, evicting kept ones."""
        return len(self._free) + len(self._kept)

    def counts(self) -> PoolCounts:
        """How many pages are in which state."""
        free, kept = len(self._free), len(self._kept)
        return PoolCounts(self.total, free, self.total - free - kept, kept)

    def references(self, page: int) -> int:
        """How many sequences hold this page."""
        return self._references[page]

    def take(self) -> int:
        """A page for one sequence to write, evicting the coldest kept page if none is free."""
        if self._free:
            page = self._free.pop()
        else:
            page, _ = self._kept.popitem(last=False)
            key = self._key_of.pop(page)
            del self._page_of[key]
            if self._before_evicting is not None:
                self._before_evicting(key, page)
        self._references[page] = 1
        return page

    def find(self, key: bytes) -> int | None:
        """The page kept or live under this key."""
        return self._page_of.get(key)

    def named(self) -> list[tuple[bytes, int]]:
        """Every page that has a key."""
        return list(self._page_of.items())

    def hold(self, page: int) -> None:
        """One more sequence reads this page."""
        self._references[page] += 1
        self._kept.pop(page, None)

    def name(self, page: int, key: bytes) -> None:
        """Put a full, final page under its key; the first page of a key stays the one."""
        if key not in self._page_of and page not in self._key_of:
            self._page_of[key] = page
            self._key_of[page] = key

    def drop(self, page: int, *, cold: bool = False) -> None:
        """One sequence less holds this page; a named page is kept, cold ones evicted first."""
        self._references[page] -= 1
        if self._references[page]:
            return
        if page in self._key_of:
            self._kept[page] = None
            if cold:
                self._kept.move_to_end(page, last=False)
        else:
            self._free.append(page)


class PageTable:
    """One sequence's pages in every pool, and the chain of keys of its full blocks.

    Keys depend on the token ids only, so they outlive `Pages.release` (a preempted sequence finds
    its own pages again). `reused` counts the leading blocks that were taken over from the kept ones,
    `named` those offered for reuse; `first[p]` is the first block not left behind in pool p.
    """

    __slots__ = ("first", "keys", "named", "pages", "reused", "salt")

    def __init__(self, num_pools: int, salt: bytes = b"") -> None:
        self.pages = [array("i") for _ in range(num_pools)]
        self.first = [0] * num_pools
        self.keys: list[bytes] = []
        self.named = 0
        self.reused = 0
        self.salt = salt

    @property
    def blocks(self) -> int:
        """Blocks of positions covered, those left behind included."""
        return len(self.pages[0])

    def rows(self, blocks: int) -> tuple[Ints, ...]:
        """A copy of each pool's first `blocks` entries, for a Batch."""
        return tuple(np.array(pages[:blocks], dtype=np.int32) for pages in self.pages)


class Pages:
    """All pools, and the operations of a sequence on them.

    A sequence grows before a forward, advances after it, trims what a rejected draft left, and is
    released at its end. Pools with a window keep `slack` rows beyond it: the most a rollback may take
    back. `reuse` False keeps no page after its sequence.
    """

    def __init__(
        self,
        pools: Listing[PoolSpec],
        counts: Listing[int],
        budget: PageBudget,
        *,
        slack: int,
        reuse: bool,
        parking: Parking | None = None,
    ) -> None:
        self.page_tokens = budget.page_tokens
        self._parking = parking
        savers = [None if parking is None else partial(parking.save, p) for p in range(len(counts))]
        self.pools = tuple(PagePool(total, saver) for total, saver in zip(counts, savers, strict=True))
        self._windows = tuple(pool.window for pool in pools)
        self._most_held = tuple(
            total if pool.window is None else min(total, window_blocks(pool.window, budget))
            for pool, total in zip(pools, counts, strict=True)
        )
        self._slack = slack
        self._reuse = reuse

    def new_table(self, salt: bytes = b"", adapter: bytes = b"") -> PageTable:
        """An empty table; sequences with different salts, or hashes of adapters, never share pages."""
        if adapter:
            salt = hashlib.blake2b(salt, digest_size=32, key=adapter, person=b"adapter").digest()
        return PageTable(len(self.pools), salt)

    def blocks(self, tokens: int) -> int:
        """Blocks that cover `tokens` positions."""
        return blocks_of(tokens, self.page_tokens)

    def room(self) -> int:
        """Blocks that can be handed out now: the scarcest pool decides."""
        return min(pool.available for pool in self.pools)

    def room_for(self, growing: Listing[tuple[PageTable, int]]) -> bool:
        """Whether all these tables could grow to so many tokens each, and one page more."""
        return all(
            sum(min(self.blocks(tokens) - table.blocks, most) + 1 for table, tokens in growing)
            <= pool.available
            for pool, most in zip(self.pools, self._most_held, strict=True)
        )

    def grow(self, table: PageTable, tokens: int) -> bool:
        """Give the table pages for positions below `tokens`; all of them, or none and False."""
        missing = self.blocks(tokens) - table.blocks
        if missing > self.room():
            return False
        for pool, pages in zip(self.pools, table.pages, strict=True):
            pages.extend(pool.take() for _ in range(missing))
        return True

    def trim(self, table: PageTable, tokens: int) -> None:
        """Roll back: return the pages of blocks that no position below `tokens` needs."""
        keep = self.blocks(tokens)
        for pool, pages in zip(self.pools, table.pages, strict=True):
            for page in reversed(pages[keep:]):
                if page != LEFT_BEHIND:
                    pool.drop(page)
            del pages[keep:]

    def advance(self, table: PageTable, ids: Listing[int], n_cached: int) -> None:
        """After a forward: name blocks now final, leave behind pages no later row can see.

        A row at position t sees j > t - window, and t is never below n_cached - slack.
        """
        self.trim(table, n_cached)
        if self._reuse:
            self._name_blocks(table, ids, n_cached // self.page_tokens)
        for p, window in enumerate(self._windows):
            if window is None:
                continue
            oldest = max(0, n_cached - self._slack - window + 1)
            for block in range(table.first[p], min(oldest // self.page_tokens, table.blocks)):
                self.pools[p].drop(table.pages[p][block], cold=block >= table.reused)
                table.pages[p][block] = LEFT_BEHIND
                table.first[p] = block + 1

    def reuse(self, table: PageTable, ids: Listing[int]) -> int:
        """Fill an empty table with kept pages of a prefix of `ids`; the tokens they hold.

        At least one token is left to compute. Valid at n only if the pages of [0, n) without a
        window and those of the window before n with one are all present.
        """
        if not self._reuse:
            return 0
        limit = (len(ids) - 1) // self.page_tokens
        self._extend_keys(table, ids, limit)
        if self._parking is not None:
            self._unpark(table.keys[:limit], self._parking)
        blocks = self._reusable(table.keys[:limit])
        for p, (pool, window) in enumerate(zip(self.pools, self._windows, strict=True)):
            first = self._first_needed(blocks, window)
            table.first[p] = first
            table.pages[p].extend([LEFT_BEHIND] * first)
            for key in table.keys[first:blocks]:
                page = pool.find(key)
                assert page is not None  # _reusable saw it
                pool.hold(page)
                table.pages[p].append(page)
        table.reused = table.named = blocks
        return blocks * self.page_tokens

    def release(self, table: PageTable) -> None:
        """Return all pages; named ones are kept, the tail of the text evicted before its head."""
        self.trim(table, 0)
        table.first = [0] * len(self.pools)
        table.reused = table.named = 0

    def counts(self) -> tuple[PoolCounts, ...]:
        """The state of every pool."""
        return tuple(pool.counts() for pool in self.pools)

    def park(self, wanted: Callable[[], bool] = lambda: True) -> None:
        """Put pages that have a key on disk, the newest first, while they fit and it is still wanted."""
        if self._parking is None:
            return
        self._parking.share()
        room = self._parking.most_bytes
        newest = [[(p, *named) for named in reversed(pool.named())] for p, pool in enumerate(self.pools)]
        for turn in zip_longest(*newest):  # a prefix needs its pages of all pools
            for p, key, page in filter(None, turn):
                size = self._parking.save(p, key, page, room) if wanted() else 0
                room -= size
                if not size or room <= 0:
                    return

    def _unpark(self, keys: Listing[bytes], parking: Parking) -> None:
        """Bring back what parking has of the longest reusable prefix; its pages are then kept ones."""
        blocks = self._reusable(keys, parking)
        held: list[tuple[PagePool, int]] = []
        for p, (pool, window) in enumerate(zip(self.pools, self._windows, strict=True)):
            missing = []
            for key in keys[self._first_needed(blocks, window) : blocks]:
                page = pool.find(key)
                if page is None:
                    missing.append(key)
                else:
                    pool.hold(page)  # not to be evicted for the ones that come back
                    held.append((pool, page))
            for key in missing:
                if not pool.available:
                    break
                page = pool.take()
                if parking.load(p, key, page):
                    pool.name(page, key)
                held.append((pool, page))
        for pool, page in reversed(held):  # the head of the text is evicted last
            pool.drop(page)

    def _first_needed(self, blocks: int, window: int | None) -> int:
        """First block the row after `blocks` blocks can see (one position more: a drafter's view)."""
        return 0 if window is None else max(0, blocks * self.page_tokens - window) // self.page_tokens

    def _reusable(self, keys: Listing[bytes], parking: Parking | None = None) -> int:
        """The most leading blocks that all pools can serve, or could with what is parked."""

        def has(p: int, b: int) -> bool:
            return self.pools[p].find(keys[b]) is not None or (
                parking is not None and parking.has(p, keys[b])
            )

        blocks = len(keys)
        for p, window in enumerate(self._windows):
            if window is None:
                blocks = next((b for b in range(blocks) if not has(p, b)), blocks)
        windowed = [(p, w) for p, w in enumerate(self._windows) if w is not None]
        while blocks:
            hole = max(
                (
                    b
                    for p, window in windowed
                    for b in range(self._first_needed(blocks, window), blocks)
                    if not has(p, b)
                ),
                default=None,
            )
            if hole is None:
                return blocks
            blocks = hole  # anything longer would have this hole in its window, or end in it
        return 0

    def _name_blocks(self, table: PageTable, ids: Listing[int], final: int) -> None:
        self._extend_keys(table, ids, final)
        for block in range(table.named, final):
            for pool, pages in zip(self.pools, table.pages, strict=True):
                if pages[block] != LEFT_BEHIND:
                    pool.name(pages[block], table.keys[block])
        table.named = max(table.named, final)

    def _extend_keys(self, table: PageTable, ids: Listing[int], blocks: int) -> None:
        size = self.page_tokens
        for block in range(len(table.keys), blocks):
            before = table.keys[-1] if table.keys else table.salt
            tokens = array("i", ids[block * size : (block + 1) * size]).tobytes()
            table.keys.append(hashlib.blake2b(tokens, digest_size=16, key=_fixed(before)).digest())


def _fixed(key: bytes) -> bytes:
    """blake2b takes keys of at most 64 bytes; a longer salt is hashed first."""
    return key if len(key) <= 64 else hashlib.blake2b(key, digest_size=32).digest()
