"""From a plan to the Batch a backend runs, and from its Logits back to each sequence's own.

Pure rearranging: decides neither who runs nor what is accepted. Called by engine.py only.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Listing

import numpy as np

from gemstead.backend.base import Batch, Cache, Floats, Logits, SequenceRows
from gemstead.engine.pages import Pages
from gemstead.engine.scheduler import Rows
from gemstead.engine.sequence import Sequence


def make_batch(
    plan: Listing[Rows], pages: Pages, cache: Cache, *, want_hidden: bool, want_logits: bool = True
) -> Batch:
    """One forward over all rows of the plan, in its order."""
    token_ids: list[int] = []
    logit_rows: list[int] = []
    sequences = []
    for rows in plan:
        start = len(token_ids)
        token_ids += rows.token_ids()
        logit_rows += range(start + rows.first_logit_row, start + rows.total)
        tables = rows.sequence.table.rows(pages.blocks(rows.position + rows.total))
        sequences.append(SequenceRows(start, rows.total, rows.position, tables, rows.sequence.adapter))
    return Batch(
        token_ids=np.asarray(token_ids, dtype=np.int32),
        sequences=tuple(sequences),
        logit_rows=np.asarray(logit_rows, dtype=np.int32),
        cache=cache,
        want_hidden=want_hidden,
        want_logits=want_logits,
    )


def draft_batch(
    sequences: Listing[Sequence], token_ids: Listing[int], hidden_TD: Floats, pages: Pages, cache: Cache
) -> Batch:
    """One drafter step: a row per sequence, at the position of its last cached token."""
    rows = tuple(
        SequenceRows(i, 1, s.n_cached - 1, s.table.rows(pages.blocks(s.n_cached)))
        for i, s in enumerate(sequences)
    )
    return Batch(
        token_ids=np.asarray(token_ids, dtype=np.int32),
        sequences=rows,
        logit_rows=np.arange(len(rows), dtype=np.int32),
        cache=cache,
        hidden_TD=hidden_TD,
    )


def split_logits(plan: Listing[Rows], logits: Logits) -> Iterator[tuple[Rows, Logits]]:
    """Each sequence's logit rows (and hidden rows), as views."""
    start = 0
    for rows in plan:
        stop = start + rows.total - rows.first_logit_row
        hidden = None if logits.hidden_RD is None else logits.hidden_RD[start:stop]
        yield rows, Logits(logits.values_RV[start:stop], hidden)
        start = stop
