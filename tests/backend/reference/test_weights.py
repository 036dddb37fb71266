"""Where weights live: small models as float32, big ones in the file, unpacked block by block."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.support.memory_store import MemoryStore
from tests.support.paging import Runner

from gemstead.backend.reference import ReferenceBackend, weights
from gemstead.backend.reference.weights import Weights, times_rows
from gemstead.spec.variants import VARIANTS


class Watched:
    """A tensor that notes how much of it is unpacked at once."""

    def __init__(self, tensor, log):
        self.tensor, self.log = tensor, log
        self.name, self.shape, self.nbytes = tensor.name, tensor.shape, tensor.nbytes

    def float32(self, start=0, stop=None):
        values = self.tensor.float32(start, stop)
        self.log.append((self.name, start, values.nbytes))
        return values

    def rows(self, index):
        values = self.tensor.rows(index)
        self.log.append((self.name, None, values.nbytes))
        return values


def watched_store(name):
    store, log = MemoryStore(VARIANTS[name]), []
    store.tensors = {n: Watched(t, log) for n, t in store.tensors.items()}
    return store, log


def test_a_product_is_the_same_in_one_block_or_many(monkeypatch):
    store = MemoryStore(VARIANTS["tiny-e2b"])
    x_TI = np.random.default_rng(0).standard_normal((5, 64)).astype(np.float32)
    table = store.tensors["embed_tokens"].values
    for block in (1, 4 * 64 * 7, 1 << 20):
        monkeypatch.setattr(weights, "BLOCK_BYTES", block)
        w = Weights(store)
        np.testing.assert_allclose(w.linear("embed_tokens", x_TI), x_TI @ table.T, rtol=1e-5, atol=1e-5)
        part = w.linear("embed_tokens", x_TI, 10, 31)
        np.testing.assert_allclose(part, x_TI @ table[10:31].T, rtol=1e-5, atol=1e-5)
        assert w.linear("embed_tokens", x_TI[:0]).shape == (0, 256)


def test_each_row_is_a_product_of_its_own():
    rng = np.random.default_rng(1)
    for width, height in ((64, 256), (250, 1001), (1024, 256), (3, 5)):
        w_OI = rng.standard_normal((height, width)).astype(np.float32)
        x_TI = rng.standard_normal((33, width)).astype(np.float32)
        together = times_rows(x_TI, w_OI)
        for t in range(33):
            assert np.array_equal(together[t : t + 1], times_rows(x_TI[t : t + 1].copy(), w_OI))


def test_a_big_model_is_never_unpacked_whole(monkeypatch):
    monkeypatch.setattr(weights, "RESIDENT_BYTES", 0)
    monkeypatch.setattr(weights, "BLOCK_BYTES", 4096)
    store, log = watched_store("tiny-e2b")
    Runner(ReferenceBackend(store)).step({0: [5, 6, 7]}, "last")
    widest_row = max(4 * s[-1] for s in (t.shape for t in store.tensors.values()) if len(s) > 1)
    assert max(size for name, start, size in log if start is not None) <= max(4096, widest_row)
    gathered = {name: size for name, start, size in log if start is None}
    assert gathered.keys() == {"embed_tokens", "embed_tokens_per_layer"}
    assert all(size <= 3 * 4 * store.tensors[name].shape[1] for name, size in gathered.items())
    unpacked = {name for name, start, _ in log if start is not None}
    assert "embed_tokens_per_layer" not in unpacked, "rows are gathered from the per-layer table, no more"


def test_a_small_model_is_unpacked_once():
    store, log = watched_store("tiny-e2b")
    runner = Runner(ReferenceBackend(store))
    runner.step({0: [5, 6, 7]})
    names = [name for name, *_ in log]
    assert len(names) == len(set(names))
    runner.step({0: [8]})
    assert len(log) == len(names)


def test_only_the_chosen_experts_are_unpacked(monkeypatch):
    monkeypatch.setattr(weights, "RESIDENT_BYTES", 0)
    store, log = watched_store("tiny-26b")
    moe = store.spec.layers[0].moe
    Runner(ReferenceBackend(store)).step({0: [5]})
    for layer in store.spec.layers:
        for name in ("gate_up_proj", "down_proj"):
            full = f"layers.{layer.index}.experts.{name}"
            touched = [start for n, start, _ in log if n == full]
            assert len(touched) == len(set(touched)) == moe.top_k_experts < moe.num_experts


@pytest.mark.parametrize("name", ["tiny-e2b", "tiny-26b"])
def test_kept_or_unpacked_on_the_way_the_logits_are_the_same(name, monkeypatch):
    store = MemoryStore(replace(VARIANTS[name], name="twice"))
    kept = Runner(ReferenceBackend(store)).step({0: range(20)})[0].values_RV
    monkeypatch.setattr(weights, "RESIDENT_BYTES", 0)
    assert np.array_equal(Runner(ReferenceBackend(store)).step({0: range(20)})[0].values_RV, kept)
