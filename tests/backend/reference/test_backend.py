"""The five methods of the reference backend."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.memory_store import MemoryStore
from tests.support.paging import Runner

from gemstead.backend.base import Backend, Media
from gemstead.backend.reference import ReferenceBackend
from gemstead.errors import BackendError, InputError
from gemstead.spec.variants import DRAFTERS, VARIANTS

SPEC = VARIANTS["tiny-12b"]


@pytest.fixture
def backend():
    return ReferenceBackend(MemoryStore(SPEC), MemoryStore(DRAFTERS["tiny-12b"]))


def test_capabilities(backend):
    told = backend.capabilities()
    assert isinstance(backend, Backend)
    assert (told.name, told.spec, told.drafter) == ("reference", SPEC, DRAFTERS["tiny-12b"])
    cache = backend.new_cache((3, 5), 8)
    assert cache.size_bytes == 8 * (3 * told.kv_bytes_per_token[0] + 5 * told.kv_bytes_per_token[1])
    assert told.weights_bytes > 0
    assert not told.media


def test_it_has_no_senses(backend):
    with pytest.raises(InputError, match="cannot read image"):
        backend.encode(Media("image", np.zeros((3, 3), np.float32)))


def test_after_closing_it_computes_no_more(backend):
    runner = Runner(backend)
    runner.step({0: [1, 2]})
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        runner.step({0: [3]})
