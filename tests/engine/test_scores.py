"""Scores along a text, a few rows at a time: the same as all at once."""

import numpy as np
import pytest

from gemstead.backend.reference import ReferenceBackend
from gemstead.engine.scores import reading_engine, score_rows
from gemstead.errors import ContextError
from gemstead.spec.variants import VARIANTS
from support.memory_store import MemoryStore


@pytest.fixture
def backend():
    found = ReferenceBackend(MemoryStore(VARIANTS["tiny-e2b"]))  # type: ignore[arg-type]
    yield found
    found.close()


def test_the_rows_are_those_of_one_forward(backend, monkeypatch) -> None:
    ids = [2, *range(20, 60)]
    whole = np.concatenate(list(score_rows(reading_engine(backend, 64), ids)))
    monkeypatch.setattr("gemstead.engine.engine._SCORE_BYTES", 4 * 256 * 3)
    engine = reading_engine(backend, 64)
    pieces = list(score_rows(engine, ids))
    assert [len(piece) for piece in pieces] == [3] * 13 + [2]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert not engine.has_work


def test_leaving_early_gives_the_pages_back(backend) -> None:
    engine = reading_engine(backend, 64)
    rows = score_rows(engine, list(range(2, 60)))
    next(rows)
    rows.close()
    assert all(pool.live == 0 for pool in engine.stats().pools)


def test_a_text_that_is_too_long_is_refused(backend) -> None:
    with pytest.raises(ContextError, match="shorten the prompt"):
        list(score_rows(reading_engine(backend, 32), [2] * 33))
