"""What the text forward computes for whom: rows that stop early, ids it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.support.memory_store import MemoryStore
from tests.support.paging import Runner

from gemstead.backend.reference import ReferenceBackend, model
from gemstead.errors import InputError
from gemstead.spec.variants import VARIANTS


@pytest.fixture
def worked(monkeypatch):
    """Rows that reach the feed-forward of each layer, and rows per-layer inputs are made for."""
    seen = {}
    feed_forward, inputs = model.feed_forward, model.per_layer_inputs

    def counted_feed_forward(w, layer, x_TD, eps):
        seen[layer.index] = len(x_TD)
        return feed_forward(w, layer, x_TD, eps)

    def counted_inputs(w, spec, ids_T, x_TD, layers):
        seen[layers] = len(ids_T)
        return inputs(w, spec, ids_T, x_TD, layers)

    monkeypatch.setattr(model, "feed_forward", counted_feed_forward)
    monkeypatch.setattr(model, "per_layer_inputs", counted_inputs)
    return seen


@pytest.mark.parametrize("name", ["tiny-e2b", "tiny-12b"])
def test_rows_nobody_reads_stop_once_their_keys_are_written(name, worked):
    spec = VARIANTS[name]
    Runner(ReferenceBackend(MemoryStore(spec))).step({0: range(12), 1: range(5)}, "last")
    split = spec.last_kv_layer
    expected = {i: 17 if i < split else 2 for i in range(spec.num_layers)}
    if spec.hidden_size_per_layer_input:
        expected |= {range(split): 17, range(split, spec.num_layers): 2}
    assert worked == expected


def test_nothing_runs_beyond_the_keys_when_no_logits_are_wanted(worked):
    spec = VARIANTS["tiny-e2b"]
    Runner(ReferenceBackend(MemoryStore(spec))).step({0: range(12)}, "none")
    assert max(i for i in worked if isinstance(i, int)) == spec.last_kv_layer - 1


def test_all_layers_may_read_the_first(worked):
    tiny = VARIANTS["tiny-e2b"]
    full = next(layer for layer in tiny.layers if layer.attention.kind == "full")
    layers = tuple(replace(full, index=i, kv_source=0) for i in range(3))
    runner = Runner(ReferenceBackend(MemoryStore(replace(tiny, layers=layers))))
    assert runner.step({0: [3, 4, 5]}, "last")[0].values_RV.shape == (1, tiny.vocab_size)
    assert worked == {range(0): 3, range(3): 1, 0: 1, 1: 1, 2: 1}


@pytest.mark.parametrize("bad", [-1, 256])
def test_an_id_outside_the_vocabulary_is_the_callers_fault(bad):
    runner = Runner(ReferenceBackend(MemoryStore(VARIANTS["tiny-e2b"])))
    with pytest.raises(InputError, match=r"outside the vocabulary of tiny-e2b: ids go from 0 to 255"):
        runner.step({0: [1, bad, 2]})


def test_the_hidden_state_is_given_when_asked_for():
    runner = Runner(ReferenceBackend(MemoryStore(VARIANTS["tiny-12b"])))
    assert runner.step({0: [1, 2]})[0].hidden_RD is None
    out = runner.step({0: [3, 4]}, want_hidden=True)[0]
    assert out.hidden_RD.shape == (2, 64)
    assert out.values_RV.dtype == out.hidden_RD.dtype == np.float32
