"""Plans become batches and logits find their way back."""

from __future__ import annotations

import numpy as np

from gemstead.backend.base import Logits
from gemstead.engine.batching import draft_batch, make_batch, split_logits
from gemstead.engine.pages import PageBudget, Pages
from gemstead.engine.sampler import Sampler
from gemstead.engine.scheduler import Rows
from gemstead.engine.sequence import Sequence
from gemstead.spec.model import PoolSpec
from gemstead.types import SamplingParams

POOLS = (PoolSpec("sliding", 1, 2, 8, (0,)), PoolSpec("full", 1, 4, None, (1,)))


def pages():
    return Pages(POOLS, (20, 20), PageBudget(1, 4, 100, 4, 20), slack=2, reuse=True)


def sequence(held, ids, n_cached, room):
    made = Sequence(list(ids), 100, Sampler(SamplingParams(seed=0), (), 100), held.new_table())
    made.n_cached = n_cached
    assert held.grow(made.table, room)
    return made


def test_rows_logit_rows_and_tables():
    held = pages()
    decoding = sequence(held, range(10, 16), 5, 8)
    reading = sequence(held, range(20, 40), 4, 12)
    scored = sequence(held, range(50, 60), 0, 3)
    scored.scores = []
    plan = [Rows(decoding, 1, (7, 8)), Rows(reading, 6), Rows(scored, 3)]
    batch = make_batch(plan, held, cache=None, want_hidden=True)
    assert batch.token_ids.tolist() == [15, 7, 8, 24, 25, 26, 27, 28, 29, 50, 51, 52]
    assert [(s.start, s.count, s.position) for s in batch.sequences] == [(0, 3, 5), (3, 6, 4), (9, 3, 0)]
    assert [[len(t) for t in s.page_tables] for s in batch.sequences] == [[2, 2], [3, 3], [1, 1]]
    assert batch.logit_rows.tolist() == [0, 1, 2, 9, 10, 11]
    values = np.arange(6, dtype=np.float32)[:, None]
    parts = list(split_logits(plan, Logits(values, values + 10)))
    assert [p.values_RV[:, 0].tolist() for _, p in parts] == [[0, 1, 2], [], [3, 4, 5]]
    assert [p.hidden_RD[:, 0].tolist() for _, p in parts] == [[10, 11, 12], [], [13, 14, 15]]


def test_a_draft_row_stands_at_the_last_cached_token():
    held = pages()
    made = sequence(held, range(9), 8, 10)
    batch = draft_batch([made], [8], np.zeros((1, 2), np.float32), held, cache=None)
    (row,) = batch.sequences
    assert (row.start, row.count, row.position) == (0, 1, 7)
    assert [len(t) for t in row.page_tables] == [2, 2]
    assert batch.token_ids.tolist() == [8]
    assert batch.logit_rows.tolist() == [0]
