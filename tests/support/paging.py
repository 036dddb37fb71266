"""A small stand-in for the engine: drives a backend's forward with pages handed out at random.

It exists so that backend tests do not depend on the engine. One Runner per backend; a sequence is a
number; pages a sliding window has left are released as early as the contract allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gemstead.backend.base import Backend, Batch, Logits, SequenceRows


class Runner:
    """Feeds token ids of several sequences to a backend and keeps their page tables."""

    def __init__(self, backend: Backend, page_tokens: int = 4, room: int = 512, seed: int = 0) -> None:
        self.backend = backend
        self.spec = backend.capabilities().spec
        self.page_tokens = page_tokens
        rng = np.random.default_rng(seed)
        num_pages = room // page_tokens
        self.free = [list(rng.permutation(num_pages)) for _ in self.spec.pools]
        self.cache = backend.new_cache((num_pages,) * len(self.spec.pools), page_tokens)
        self.tables: dict[int, list[list[int]]] = {}
        self.cached: dict[int, int] = {}
        self.adapters: dict[int, int] = {}  # of sequences that have one

    def step(
        self, chunks: Mapping[int, Sequence[int]], wanted: str = "all", want_hidden: bool = False
    ) -> dict[int, Logits]:
        """One forward: append the ids to each sequence; logits of `wanted` rows: all, last or none."""
        ids, rows, logit_rows = [], [], []
        for sequence, chunk in chunks.items():
            start, position = len(ids), self.cached.get(sequence, 0)
            ids.extend(int(i) for i in chunk)
            tables = self._grow(sequence, position, position + len(chunk))
            rows.append(SequenceRows(start, len(chunk), position, tables, self.adapters.get(sequence, 0)))
            self.cached[sequence] = position + len(chunk)
            logit_rows.extend({"all": range(start, len(ids)), "last": [len(ids) - 1], "none": []}[wanted])
        out = self._forward(ids, rows, logit_rows, want_hidden)
        return self._split(out, rows, logit_rows, chunks)

    def draft(self, tokens: Mapping[int, int], hidden: Mapping[int, np.ndarray]) -> dict[int, Logits]:
        """One draft step for sequences whose tokens are all cached but the given one."""
        rows = [
            SequenceRows(n, 1, self.cached[s] - 1, self._grow(s, self.cached[s] - 1, self.cached[s]))
            for n, s in enumerate(tokens)
        ]
        states = np.stack([hidden[s] for s in tokens])
        out = self._forward(list(tokens.values()), rows, list(range(len(rows))), False, states)
        return self._split(out, rows, list(range(len(rows))), tokens)

    def rollback(self, sequence: int, length: int) -> None:
        """Forget everything from position `length` on; later rows write over it."""
        self.cached[sequence] = length

    def _forward(self, ids, rows, logit_rows, want_hidden, hidden=None):
        as_ints = [np.array(x, np.int32) for x in (ids, logit_rows)]
        return self.backend.forward(
            Batch(as_ints[0], tuple(rows), as_ints[1], self.cache, want_hidden, hidden)
        )

    def _split(self, out: Logits, rows, logit_rows, names) -> dict[int, Logits]:
        found = {}
        for name, r in zip(names, rows, strict=True):
            own = [n for n, row in enumerate(logit_rows) if r.start <= row < r.start + r.count]
            hidden = None if out.hidden_RD is None else out.hidden_RD[own]
            found[name] = Logits(out.values_RV[own], hidden)
        return found

    def _grow(self, sequence: int, position: int, stop: int) -> tuple[np.ndarray, ...]:
        """Page tables up to `stop`; pages no row from `position` on can see are released first."""
        tables = self.tables.setdefault(sequence, [[] for _ in self.spec.pools])
        for pool, table, free in zip(self.spec.pools, tables, self.free, strict=True):
            # A drafter's row sits one position before the next token and sees `window` tokens before it.
            oldest = 0 if pool.window is None else max(0, position - pool.window - 1)
            for block in range(min(oldest // self.page_tokens, len(table))):
                if table[block] >= 0:
                    free.insert(0, table[block])
                    table[block] = -1
            while len(table) * self.page_tokens < stop:
                table.append(free.pop())
        return tuple(np.array(table, np.int32) for table in tables)
