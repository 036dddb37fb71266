"""Opening a backend by name."""

from __future__ import annotations

import sys

import pytest
from tests.support.memory_store import MemoryStore

from gemstead.backend import TABLE, open_backend
from gemstead.errors import BackendError, ConfigError
from gemstead.spec.variants import VARIANTS


@pytest.fixture
def store():
    return MemoryStore(VARIANTS["tiny-12b"])


def test_by_name(store):
    assert open_backend("reference", store, threads=1).capabilities().name == "reference"


def test_an_unknown_name_lists_the_known_ones(store):
    with pytest.raises(ConfigError) as error:
        open_backend("cuda", store)
    assert all(name in str(error.value) for name in TABLE)


def test_no_thread_is_too_few(store):
    with pytest.raises(ConfigError, match="threads=0"):
        open_backend("reference", store, threads=0)


def test_ways_to_keep_k_and_v(store):
    with pytest.raises(ConfigError, match="choose one of f16, q8_0"):
        open_backend("native", store, kv="q4_0")
    for name in ("reference", "torch"):
        with pytest.raises(ConfigError, match=f"the backend {name} has none"):
            open_backend(name, store, kv="q8_0")


def test_torch_missing_says_what_to_install(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "gemstead.backend.torch", None)
    with pytest.raises(BackendError, match=r"pip install 'gemstead\[torch\]'"):
        open_backend("torch", store)
