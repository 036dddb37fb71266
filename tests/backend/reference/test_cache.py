"""Pages: what was written at a position is read there, wherever the engine put the page."""

from __future__ import annotations

import numpy as np
import pytest

from gemstead.backend.base import Batch, SequenceRows
from gemstead.backend.reference.cache import PagedCache, Rows
from gemstead.errors import CapacityError
from gemstead.spec.variants import VARIANTS

SPEC = VARIANTS["tiny-e2b"]
LAYER = SPEC.pools[0].layers[0]
SHAPE = (SPEC.pools[0].num_kv_heads, SPEC.pools[0].head_dim)


def rows_of(position, count, table):
    tables = tuple(np.array(table, np.int32) for _ in SPEC.pools)
    sequence = SequenceRows(0, count, position, tables)
    ids = np.zeros(count, np.int32)
    return sequence, Rows.of(Batch(ids, (sequence,), ids[:0], cache=None))


def test_a_sequence_reads_back_what_it_wrote_in_scattered_pages():
    cache, rng = PagedCache(SPEC, (16,) * len(SPEC.pools), 4), np.random.default_rng(0)
    table = rng.permutation(16)[:6]
    values = rng.standard_normal((23, *SHAPE)).astype(np.float32)
    for start, stop in ((0, 3), (3, 4), (4, 17), (17, 23)):
        _, rows = rows_of(start, stop - start, table)
        cache.write(LAYER, rows, values[start:stop], -values[start:stop])
    sequence, _ = rows_of(22, 1, table)
    for first, last in ((0, 22), (5, 5), (7, 20), (8, 11)):
        k_SKH, v_SKH = cache.read(LAYER, sequence, first, last)
        assert np.array_equal(k_SKH, values[first : last + 1])
        assert np.array_equal(v_SKH, -values[first : last + 1])


def test_rows_can_be_thinned_out_and_keep_their_sequence():
    tables = tuple(np.zeros(9, np.int32) for _ in SPEC.pools)
    sequences = (SequenceRows(0, 4, 10, tables), SequenceRows(4, 2, 0, tables), SequenceRows(6, 3, 5, tables))
    ids = np.zeros(9, np.int32)
    rows = Rows.of(Batch(ids, sequences, ids[:0], cache=None))
    assert rows.positions_T.tolist() == [10, 11, 12, 13, 0, 1, 5, 6, 7]
    kept = rows.keep(np.array([1, 3, 8], np.int32))
    assert kept.positions_T.tolist() == [11, 13, 7]
    assert [(s.sequence.position, s.start, s.stop) for s in kept.spans] == [(10, 0, 2), (5, 2, 3)]


def test_released_pages_are_never_touched():
    cache = PagedCache(SPEC, (8,) * len(SPEC.pools), 4)
    sequence, rows = rows_of(9, 2, [-1, -1, 5])
    cache.write(LAYER, rows, *(np.ones((2, *SHAPE), np.float32) for _ in range(2)))
    assert cache.held_from(LAYER, sequence, 3) == 8
    assert cache.held_from(LAYER, sequence, 9) == 9
    with pytest.raises(AssertionError, match="left behind"):
        cache.read(LAYER, sequence, 7, 10)
    _, behind = rows_of(6, 3, [-1, -1, 5])
    with pytest.raises(AssertionError, match="released"):
        cache.write(LAYER, behind, *(np.ones((3, *SHAPE), np.float32) for _ in range(2)))


def test_its_size_is_what_the_capabilities_promise():
    cache = PagedCache(SPEC, tuple(range(3, 3 + len(SPEC.pools))), 8)
    expected = sum(
        8 * len(p.layers) * p.num_kv_heads * p.head_dim * 8 * n for n, p in enumerate(SPEC.pools, start=3)
    )
    assert cache.size_bytes == expected


def test_more_memory_than_there_is_says_so():
    with pytest.raises(CapacityError, match="bytes for K/V"):
        PagedCache(SPEC, (1 << 46,) * len(SPEC.pools), 32)
