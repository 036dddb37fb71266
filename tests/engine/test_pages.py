"""Pages: rollback inside a window, reuse, eviction, and the count that always adds up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemstead.engine.pages import LEFT_BEHIND, PageBudget, PagePool, Pages, page_counts
from gemstead.errors import ConfigError
from gemstead.spec.model import PoolSpec
from gemstead.spec.variants import VARIANTS

SLIDING = PoolSpec("sliding", 1, 2, 8, (0,))
FULL = PoolSpec("full", 1, 4, None, (1,))


def make_pages(num_pages=64, page_tokens=4, slack=3, reuse=True, window=8):
    sliding = PoolSpec("sliding", 1, 2, window, (0,))
    budget = PageBudget(1 << 20, page_tokens, 4096, 4, span_tokens=16 + 2 * slack)
    return Pages((sliding, FULL), (num_pages, num_pages), budget, slack=slack, reuse=reuse)


@pytest.mark.parametrize("page_tokens", [1, 3, 4, 16])
@pytest.mark.parametrize("slack", [0, 1, 5])
def test_a_rollback_finds_every_row_of_its_window(page_tokens, slack):
    """The test design.md asks for first: after any advance, `slack` rows back still see their window."""
    window = 8
    pages = make_pages(page_tokens=page_tokens, slack=slack, window=window)
    table = pages.new_table()
    for n_cached in range(1, 60):
        assert pages.grow(table, n_cached + slack)
        pages.advance(table, range(60), n_cached)
        for back in range(min(slack, n_cached) + 1):
            t = n_cached - back  # position of the next row after taking back `back` rows
            visible = range(max(0, t - window + 1), t)
            assert all(table.pages[0][j // page_tokens] != LEFT_BEHIND for j in visible)
            assert LEFT_BEHIND not in table.pages[1]


def test_pages_left_behind_by_the_window_come_back():
    pages = make_pages(num_pages=40, slack=0, reuse=False)
    table = pages.new_table()
    for n in range(1, 150):
        assert pages.grow(table, n)
        pages.advance(table, [0] * n, n)
        assert pages.counts()[0].live <= (8 - 1) // 4 + 2
    assert pages.counts()[1].live == 38


def test_grow_gives_all_or_nothing():
    pages = make_pages(num_pages=3)
    table = pages.new_table()
    assert not pages.grow(table, 13)
    assert table.blocks == 0
    assert [c.free for c in pages.counts()] == [3, 3]
    assert pages.grow(table, 12)


def fill(pages, ids, n=None):
    """A sequence that has computed the first n of its ids."""
    table = pages.new_table()
    n = len(ids) if n is None else n
    start = pages.reuse(table, ids)
    for stop in [*range(start + 4, n, 4), n]:
        assert pages.grow(table, stop)
        pages.advance(table, ids, stop)
    return table


def test_a_prefix_is_found_again_and_shared():
    pages = make_pages()
    ids = list(range(30))
    first = fill(pages, ids)
    second = pages.new_table()
    assert pages.reuse(second, [*ids, 99]) == 28
    assert second.pages[1][:7] == first.pages[1][:7]
    assert all(pages.pools[1].references(p) == 2 for p in second.pages[1])
    pages.release(first)
    third = pages.new_table()
    assert pages.reuse(third, [*ids, 99]) == 28
    pages.release(second)
    pages.release(third)
    assert [c.live for c in pages.counts()] == [0, 0]


def test_at_least_one_token_is_left_to_compute():
    pages = make_pages()
    pages.release(fill(pages, list(range(32))))
    assert pages.reuse(pages.new_table(), list(range(32))) == 28


def test_another_salt_or_another_beginning_shares_nothing():
    pages = make_pages()
    ids = list(range(32))
    pages.release(fill(pages, ids))
    assert pages.reuse(pages.new_table(b"an image"), ids) == 0
    assert pages.reuse(pages.new_table(b"x" * 100), ids) == 0
    assert pages.reuse(pages.new_table(), [7, *ids[1:]]) == 0


def test_reuse_needs_the_window_before_it():
    """Sliding pages in the middle of a text are evicted under pressure; then only less is reused."""
    pages = make_pages(num_pages=64)
    ids = list(range(64))
    pages.release(fill(pages, ids))
    key_table = pages.new_table()
    pages.reuse(key_table, [*ids, 0])
    pages.release(key_table)
    sliding = pages.pools[0]
    # Take away the page of block 10 by hand: reuse must stop at a place whose window lies before it.
    page = sliding.find(key_table.keys[10])
    sliding._kept.pop(page)
    del sliding._page_of[sliding._key_of.pop(page)]
    sliding._free.append(page)
    assert pages.reuse(pages.new_table(), ids[:50]) == 10 * 4  # 44 and 48 see block 10
    assert pages.reuse(pages.new_table(), ids[:55]) == 13 * 4  # blocks 11 and 12 are there


def test_a_table_used_again_offers_its_blocks_again():
    pages = make_pages(num_pages=12, page_tokens=4)
    ids = list(range(32))
    table = fill(pages, ids)
    pages.release(table)
    other = pages.new_table()
    assert pages.grow(other, 48)  # evicts all that was kept
    pages.release(other)
    assert pages.reuse(table, ids) == 0
    assert pages.grow(table, 32)
    pages.advance(table, ids, 32)
    pages.release(table)
    assert pages.reuse(pages.new_table(), ids) == 28


def test_cold_pages_go_first_and_the_beginning_stays():
    pool = PagePool(4)
    held = [pool.take() for _ in range(4)]
    for i, page in enumerate(held):
        pool.name(page, bytes([i]))
    pool.drop(held[3])  # the end of a finished request: warm
    pool.drop(held[0], cold=True)
    pool.drop(held[1], cold=True)
    pool.drop(held[2], cold=True)
    assert [pool.take() for _ in range(4)] == [held[2], held[1], held[0], held[3]]


def test_without_reuse_nothing_is_kept():
    pages = make_pages(reuse=False)
    pages.release(fill(pages, list(range(32))))
    assert [c.kept for c in pages.counts()] == [0, 0]
    assert pages.reuse(pages.new_table(), list(range(32))) == 0


class Walk:
    """Random lives of sequences over the same pages, with every promise checked after each move."""

    def __init__(self, rng, num_pages):
        self.rng = rng
        self.pages = make_pages(num_pages=num_pages)
        self.lives = []

    def move(self):
        kind = self.rng.integers(4)
        if kind == 0 and len(self.lives) < 5:
            ids = [int(x) for x in self.rng.integers(0, 2, self.rng.integers(1, 40))]
            table = self.pages.new_table()
            self.lives.append([table, ids, self.pages.reuse(table, ids)])
        elif kind == 1 and self.lives:
            self.pages.release(self.lives.pop(self.rng.integers(len(self.lives)))[0])
        elif self.lives:
            life = self.lives[self.rng.integers(len(self.lives))]
            table, ids, n = life
            more = int(self.rng.integers(1, 9))
            ids.extend(int(x) for x in self.rng.integers(0, 2, max(0, n + more + 1 - len(ids))))
            if self.pages.grow(table, n + more):
                life[2] = n + int(self.rng.integers(1, more + 1))
                self.pages.advance(table, ids, life[2])

    def check(self):
        for p, (pool, counts) in enumerate(zip(self.pages.pools, self.pages.counts(), strict=True)):
            assert counts.free + counts.live + counts.kept == counts.total
            held = [page for table, _, _ in self.lives for page in table.pages[p] if page != LEFT_BEHIND]
            assert len(set(held)) == counts.live
            for page in set(held):
                assert pool.references(page) == held.count(page)
            for table, _, n in self.lives:
                writable = list(table.pages[p][n // self.pages.page_tokens :])
                assert all(pool.references(page) == 1 for page in writable)


@given(seed=st.integers(0, 2**32 - 1), num_pages=st.integers(4, 40))
@settings(max_examples=60, deadline=None)
def test_free_and_used_are_total_and_only_finished_pages_are_shared(seed, num_pages):
    walk = Walk(np.random.default_rng(seed), num_pages)
    for _ in range(60):
        walk.move()
        walk.check()
    for table, _, _ in walk.lives:
        walk.pages.release(table)
    assert all(c.live == 0 for c in walk.pages.counts())


def budget(memory, context=131072, sequences=16, page_tokens=32):
    return PageBudget(memory, page_tokens, context, sequences, span_tokens=520)


@given(memory=st.integers(10_000_000, 10**11), name=st.sampled_from(["e2b", "e4b", "12b", "26b-a4b", "31b"]))
@settings(max_examples=60, deadline=None)
def test_the_ceiling_holds_for_every_model(memory, name):
    pools = VARIANTS[name].pools
    cost = [len(p.layers) * 2 * p.num_kv_heads * p.head_dim * 4 for p in pools]
    try:
        counts = page_counts(pools, cost, budget(memory))
    except ConfigError:
        assert memory < 32 * sum(cost)
        return
    assert sum(n * 32 * c for n, c in zip(counts, cost, strict=True)) <= memory
    assert min(counts) >= 1


def test_the_longest_context_is_served_before_many_short_ones():
    pools = VARIANTS["e2b"].pools
    one = -(-(512 + 520) // 32) + 2
    window_pages, full_pages = page_counts(pools, (24576, 12288), budget(3_000_000_000))
    assert full_pages > 131072 // 32
    assert window_pages == 16 * one
    window_pages, full_pages = page_counts(pools, (24576, 12288), budget(200_000_000))
    assert window_pages == 50_000_000 // (one * 32 * 24576) * one  # a quarter of it
    assert full_pages == (200_000_000 - window_pages * 32 * 24576) // (32 * 12288)


def test_more_memory_than_all_sequences_can_use_is_not_taken():
    counts = page_counts((SLIDING, FULL), (16, 16), budget(10**12, context=1000, sequences=2))
    assert counts == (2 * 19, 2 * 32)  # 19: window 8 and span 520, and two ragged ends


def test_no_room_for_one_page_says_what_is_needed():
    with pytest.raises(ConfigError, match="1,024 bytes"):
        page_counts((SLIDING, FULL), (16, 16), budget(1000))
