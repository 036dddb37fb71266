"""The drafter: what it may be paired with, and the head that scores a few clusters of tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.support.memory_store import MemoryStore
from tests.support.paging import Runner

from gemstead.backend.reference import ReferenceBackend
from gemstead.backend.reference.drafter import centroid_head
from gemstead.backend.reference.weights import Weights
from gemstead.errors import BackendError
from gemstead.spec.variants import DRAFTERS, VARIANTS

TARGET, DRAFTER = VARIANTS["tiny-e2b"], DRAFTERS["tiny-e2b"]


def test_a_drafter_for_another_model_is_refused_with_every_reason():
    other = replace(DRAFTERS["tiny-31b"], backbone_hidden_size=63, vocab_size=255)
    with pytest.raises(BackendError) as error:
        ReferenceBackend(MemoryStore(TARGET), MemoryStore(other))
    text = str(error.value)
    assert "63, not 64" in text
    assert "255 tokens, not 256" in text
    assert "KV heads" in text


def test_stores_the_wrong_way_round_are_refused():
    with pytest.raises(BackendError, match="is a drafter"):
        ReferenceBackend(MemoryStore(DRAFTER))
    with pytest.raises(BackendError, match="not a drafter"):
        ReferenceBackend(MemoryStore(TARGET), MemoryStore(TARGET))


def test_a_draft_step_without_a_drafter_is_an_error():
    runner = Runner(ReferenceBackend(MemoryStore(TARGET)))
    hidden = runner.step({0: [1, 2]}, "last", want_hidden=True)[0].hidden_RD[0]
    with pytest.raises(BackendError, match="without a drafter"):
        runner.draft({0: 3}, {0: hidden})


def test_drafting_writes_nothing():
    runner = Runner(ReferenceBackend(MemoryStore(TARGET), MemoryStore(DRAFTER)))
    hidden = runner.step({0: range(20)}, "last", want_hidden=True)[0].hidden_RD[0]
    plain = Runner(ReferenceBackend(MemoryStore(TARGET)))
    plain.step({0: range(20)}, "last")
    runner.draft({0: 9}, {0: hidden})
    assert np.array_equal(runner.step({0: [4]})[0].values_RV, plain.step({0: [4]})[0].values_RV)


def test_a_draft_makes_do_with_the_pages_that_are_left():
    runner = Runner(ReferenceBackend(MemoryStore(TARGET), MemoryStore(DRAFTER)), page_tokens=4)
    hidden = runner.step({0: range(20)}, "last", want_hidden=True)[0].hidden_RD[0]
    for pool, table in zip(TARGET.pools, runner.tables[0], strict=True):
        if pool.window is not None:
            table[: (20 - pool.window) // 4] = [-1] * ((20 - pool.window) // 4)
    out = runner.draft({0: 9}, {0: hidden})[0]
    assert np.isfinite(out.values_RV).all()


def test_the_centroid_head_scores_the_best_clusters_and_puts_the_rest_below():
    spec = replace(DRAFTER, num_centroids=16, centroid_top_k=3)
    store = MemoryStore(spec)
    x_RD = np.random.default_rng(0).standard_normal((4, spec.hidden_size)).astype(np.float32)
    logits = centroid_head(Weights(store), spec, x_RD)
    order = store.tensors["masked_embedding.token_ordering"].values.reshape(16, -1)
    for row, x in zip(logits, x_RD, strict=True):
        best = np.argsort(-(store.tensors["masked_embedding.centroids"].values @ x))[:3]
        tokens = order[best].ravel()
        scores = store.tensors["embed_tokens"].values[tokens] @ x
        np.testing.assert_allclose(row[tokens], scores, rtol=1e-4, atol=1e-5)
        rest = np.delete(row, tokens)
        np.testing.assert_allclose(rest, scores.min() - 1, rtol=1e-4)
