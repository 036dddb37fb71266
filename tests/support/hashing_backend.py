"""A backend whose "K/V" are the token ids themselves, and whose logits are a hash of what a row sees.

Any mistake in a page table, a window, a rollback or a shared page changes the hash or trips a check.
`oracle_logits` says what a row must give, from the token ids alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from gemstead.backend.base import Batch, Capabilities, Logits, SequenceRows
from gemstead.spec.model import AttentionSpec, DrafterSpec, LayerSpec, ModelSpec, TokenIds

WINDOW = 8
VOCAB = 23
BYTES_PER_TOKEN = (16, 16)


def _layer(index: int, kind: str, window: int | None) -> LayerSpec:
    attention = AttentionSpec(kind, 1, 1, 2, window, 1e4, 1)
    return LayerSpec(index, attention, index, intermediate_size=4)


def hashing_spec(
    vocab_size: int = VOCAB,
    context: int = 4096,
    eos: tuple[int, ...] = (),
    suppressed: tuple[int, ...] = (),
    window: int = WINDOW,
) -> ModelSpec:
    """Two layers, one sliding and one full, as data."""
    return ModelSpec(
        name="hashing",
        hidden_size=2,
        vocab_size=vocab_size,
        layers=(_layer(0, "sliding", window), _layer(1, "full", None)),
        max_position_embeddings=context,
        tokens=TokenIds(eos=eos, suppressed=suppressed),
    )


def _digest(*parts: Sequence[int] | bytes) -> bytes:
    h = hashlib.blake2b(digest_size=16)
    for part in parts:
        h.update(part if isinstance(part, bytes) else np.asarray(part, np.int64).tobytes())
        h.update(b"|")
    return h.digest()


def oracle_hidden(ids: Sequence[int]) -> np.ndarray:
    """The hidden state of the row of the last id."""
    return np.frombuffer(_digest(ids)[:2], np.uint8).astype(np.float32)


def oracle_logits(ids: Sequence[int], spec: ModelSpec) -> np.ndarray:
    """The logits of the row of the last id: a hash of all ids and of those in the window."""
    window = spec.layers[0].attention.window
    seed = int.from_bytes(_digest(ids, ids[-window:]), "little")
    values = np.random.Generator(np.random.PCG64(seed)).standard_normal(spec.vocab_size)
    values[(ids[-1] * 7 + 3) % spec.vocab_size] += 2.5  # a habit that drafters can guess
    return values.astype(np.float32)


class HashingCache:
    """Per pool and page: the token and the position written to each slot."""

    def __init__(self, num_pages: tuple[int, ...], page_tokens: int) -> None:
        self.page_tokens = page_tokens
        self.pools = [np.full((n, page_tokens, 2), -1, np.int64) for n in num_pages]

    @property
    def size_bytes(self) -> int:
        return sum(pool.nbytes for pool in self.pools)

    def read_page(self, pool: int, page: int) -> bytes:
        return self.pools[pool][page].tobytes()

    def write_page(self, pool: int, page: int, data: bytes) -> None:
        self.pools[pool][page] = np.frombuffer(data, np.int64).reshape(self.page_tokens, 2)


class HashingBackend:
    """See the module. `fail_on` makes every forward that feeds one of these tokens raise."""

    def __init__(self, spec: ModelSpec | None = None, *, with_drafter: bool = True) -> None:
        self.spec = spec or hashing_spec()
        self.fail_on: set[int] = set()
        self.nan_on: set[int] = set()
        self.likely: list[int] = []  # tokens that this model likes to say, and by how much
        self.liking = 4.0
        self.forwards = 0
        self.most_rows = 0
        drafter = DrafterSpec("hashing-drafter", 2, 2, self.spec.vocab_size, (), 4096)
        self._capabilities = Capabilities(
            "hashing", self.spec, drafter if with_drafter else None, BYTES_PER_TOKEN, 0
        )

    def capabilities(self) -> Capabilities:
        return self._capabilities

    def new_cache(self, num_pages: tuple[int, ...], page_tokens: int) -> HashingCache:
        return HashingCache(num_pages, page_tokens)

    def encode(self, media: object) -> np.ndarray:
        raise NotImplementedError

    def close(self) -> None:
        pass

    def forward(self, batch: Batch) -> Logits:
        self.forwards += 1
        if batch.hidden_TD is not None:
            return self._draft(batch)
        self.most_rows = max(self.most_rows, len(batch.token_ids))
        assert batch.token_ids.dtype == batch.logit_rows.dtype == np.int32
        assert list(batch.logit_rows) == sorted(set(batch.logit_rows.tolist()))
        if self.fail_on.intersection(batch.token_ids.tolist()):
            raise RuntimeError("a token this backend cannot bear")
        self._check_sharing(batch)
        for s in batch.sequences:
            self._write(batch, s)
        values, hidden = [], []
        for row in batch.logit_rows.tolist():
            s = next(s for s in batch.sequences if s.start <= row < s.start + s.count)
            ids = self._visible(batch.cache, s, s.position + row - s.start)
            if not batch.want_logits:
                hidden.append(oracle_hidden(ids))
                continue
            logits = oracle_logits(ids, self.spec)
            logits[self.likely] += np.float32(self.liking)
            values.append(logits * np.nan if int(batch.token_ids[row]) in self.nan_on else logits)
            hidden.append(oracle_hidden(ids))
        rows = np.array(values, np.float32).reshape(-1, self.spec.vocab_size)
        if not batch.want_logits:
            rows = np.zeros((len(hidden), 0), np.float32)
        return Logits(rows, np.array(hidden, np.float32).reshape(-1, 2) if batch.want_hidden else None)

    def _draft(self, batch: Batch) -> Logits:
        """Guesses the habit; checks that the first step's hidden state is that of the last cached row."""
        values = np.zeros((len(batch.sequences), self.spec.vocab_size), np.float32)
        for i, s in enumerate(batch.sequences):
            assert s.count == 1
            ids = self._visible(batch.cache, s, s.position)
            hidden = batch.hidden_TD[i]
            assert hidden[0] < 0 or (hidden == oracle_hidden(ids)).all(), "hidden of another row"
            values[i, (int(batch.token_ids[i]) * 7 + 3) % self.spec.vocab_size] = 1.0
        return Logits(values, np.full((len(batch.sequences), 2), -1, np.float32))

    def _check_sharing(self, batch: Batch) -> None:
        pt = batch.cache.page_tokens
        start = 0
        for s in batch.sequences:
            assert s.start == start
            start += s.count
            for p, table in enumerate(s.page_tables):
                assert len(table) == -(-(s.position + s.count) // pt)
                written = set(table[s.position // pt :].tolist())
                for other in batch.sequences:
                    if other is not s:
                        assert not written & set(other.page_tables[p].tolist()), "writes a shared page"
        assert start == len(batch.token_ids)

    def _write(self, batch: Batch, s: SequenceRows) -> None:
        pt = batch.cache.page_tokens
        for i in range(s.count):
            position = s.position + i
            for p, table in enumerate(s.page_tables):
                page = int(table[position // pt])
                assert page >= 0
                batch.cache.pools[p][page, position % pt] = (batch.token_ids[s.start + i], position)

    def _visible(self, cache: HashingCache, s: SequenceRows, t: int) -> list[int]:
        """All ids up to position t by the full pool, checked against the window by the sliding one."""
        seen = {}
        for p, pool in enumerate(self.spec.pools):
            first = 0 if pool.window is None else max(0, t - pool.window + 1)
            seen[pool.kind] = [self._read(cache, s, p, j) for j in range(first, t + 1)]
        sliding = seen["sliding"]
        assert seen["full"][-len(sliding) :] == sliding, "the pools disagree"
        return seen["full"]

    def _read(self, cache: HashingCache, s: SequenceRows, pool: int, position: int) -> int:
        page = int(s.page_tables[pool][position // cache.page_tokens])
        assert page >= 0, f"position {position} is visible but its page was left behind"
        token, stored = cache.pools[pool][page, position % cache.page_tokens]
        assert stored == position, f"page {page} holds position {stored}, not {position}"
        return int(token)
