"""Drafters on the native backend: the reference's guesses, over the same pages, and nothing written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.support.memory_store import MemoryStore
from tests.support.paging import Runner
from tests.support.tolerances import NATIVE_LOGITS, NATIVE_QUANTIZED_DRAFTS

from gemstead.backend import open_backend
from gemstead.errors import BackendError
from gemstead.spec.variants import DRAFTERS, VARIANTS
from gemstead.types import KV_FORMATS
from gemstead.weights.model_file import write_model_gguf
from gemstead.weights.store import open_store

TINY = [name for name in DRAFTERS if name.startswith("tiny-")]


KINDS = [*((n, "f32") for n in TINY), ("tiny-12b", "q8_0"), ("tiny-31b", "q4_0")]


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def pair(request, tmp_path_factory):
    """A tiny model and its drafter, opened."""
    name, fmt = request.param
    home = tmp_path_factory.mktemp("drafter")
    stores = []
    for kind, spec in (("model", VARIANTS[name]), ("drafter", DRAFTERS[name])):
        arrays = {n: t.values for n, t in MemoryStore(spec, seed=5).tensors.items()}
        for n, values in arrays.items():
            if n.endswith(("q_norm", "k_norm")):
                values *= len(values) ** -0.25
        write_model_gguf(home / f"{kind}.gguf", spec, arrays, fmt)
        stores.append(open_store(home / f"{kind}.gguf"))
    yield stores
    for store in stores:
        store.close()


def drafted(backend, length, page_tokens=4, released=0):
    """Two steps of two sequences after prompts of `length`: what each scores and hands on."""
    runner = Runner(backend, page_tokens=page_tokens)
    ids = {0: np.arange(length) % 200, 1: (7 * np.arange(length + 3)) % 200}
    out = runner.step(ids, "last", want_hidden=True)
    state = {s: out[s].hidden_RD[0] for s in ids}
    for tables in runner.tables.values():
        for pool, table in zip(backend.capabilities().spec.pools, tables, strict=True):
            if pool.window is not None:
                table[:released] = [-1] * released
    found = []
    for token in (9, 11):
        out = runner.draft({s: token + s for s in ids}, state)
        state = {s: out[s].hidden_RD[0] for s in ids}
        found += [x for s in ids for x in (out[s].values_RV, out[s].hidden_RD)]
    return found


@pytest.mark.parametrize(("length", "released"), [(3, 0), (40, 0), (40, 7)])
def test_the_reference_drafts_the_same(pair, length, released):
    ours = open_backend("native", *pair)
    quantized = pair[1].tensors["post_projection"].format != "f32"
    for got, wanted in zip(
        drafted(ours, length, released=released),
        drafted(open_backend("reference", *pair), length, released=released),
        strict=True,
    ):
        if not quantized:
            np.testing.assert_allclose(got, wanted, atol=NATIVE_LOGITS)
        else:  # rows of 32 values in int8: far from a real drafter's, but the same guesses
            assert np.corrcoef(got.ravel(), wanted.ravel())[0, 1] > NATIVE_QUANTIZED_DRAFTS
    ours.close()


def test_threads_change_no_bit_of_a_draft(pair):
    one, three = (open_backend("native", *pair, threads=n) for n in (1, 3))
    for got, wanted in zip(drafted(one, 30), drafted(three, 30), strict=True):
        assert np.array_equal(got, wanted)


def test_drafting_writes_nothing(pair):
    runner, plain = (Runner(open_backend("native", *stores)) for stores in (pair, pair[:1]))
    hidden = runner.step({0: range(20)}, "last", want_hidden=True)[0].hidden_RD[0]
    plain.step({0: range(20)}, "last")
    runner.draft({0: 9}, {0: hidden})
    assert np.array_equal(runner.step({0: [4]})[0].values_RV, plain.step({0: [4]})[0].values_RV)


def test_a_draft_reads_k_and_v_in_eight_bits(tmp_path):
    target = VARIANTS["pebble"]
    kinds = {x.attention.kind: x.attention for x in target.layers}
    small = DRAFTERS["tiny-12b"]  # scores all tokens: no cluster is nearly chosen
    layers = tuple(replace(x, attention=kinds[x.attention.kind]) for x in small.layers)
    drafter = replace(small, layers=layers, backbone_hidden_size=192, vocab_size=4096)
    for name, spec in (("model", target), ("drafter", drafter)):
        arrays = {n: t.values for n, t in MemoryStore(spec, seed=6).tensors.items()}
        for n, values in arrays.items():
            if n.endswith(("q_norm", "k_norm")):
                values *= len(values) ** -0.25
        write_model_gguf(tmp_path / f"{name}.gguf", spec, arrays, "f32")
    with open_store(tmp_path / "model.gguf") as model, open_store(tmp_path / "drafter.gguf") as guesser:
        found = [drafted(open_backend("native", model, guesser, kv=kv), 60) for kv in KV_FORMATS]
    for wanted, got in zip(*found, strict=True):
        assert not np.array_equal(wanted, got)
        assert np.corrcoef(wanted.ravel(), got.ravel())[0, 1] > NATIVE_QUANTIZED_DRAFTS


def test_what_does_not_fit_is_refused(pair):
    model, drafter = pair
    with pytest.raises(BackendError, match="is a drafter"):
        open_backend("native", drafter)
    with pytest.raises(BackendError, match="is no drafter"):
        open_backend("native", model, model)
    other = DRAFTERS["tiny-12b" if model.spec.name != "tiny-12b" else "tiny-e2b"]
    if other.backbone_hidden_size != model.spec.hidden_size or other.layers != drafter.spec.layers:
        with pytest.raises(BackendError, match="cannot draft for"):
            open_backend("native", model, MemoryStore(other))
    runner = Runner(open_backend("native", model))
    hidden = runner.step({0: [1, 2]}, "last", want_hidden=True)[0].hidden_RD[0]
    with pytest.raises(BackendError, match="without a drafter"):
        runner.draft({0: 3}, {0: hidden})
