"""The native forward against the reference; batch mates, chunks and threads change no bit of it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from tests.backend.reference.test_model_batches import realistic
from tests.support.memory_store import MemoryStore
from tests.support.paging import Runner
from tests.support.tolerances import NATIVE_KV_KL, NATIVE_LOGITS, NATIVE_QUANTIZED_KL

import gemstead
from gemstead import pebble
from gemstead.agent.tools import BUILT_IN
from gemstead.backend import open_backend
from gemstead.backend.native import library as native_library
from gemstead.backend.native.library import isa_name
from gemstead.errors import BackendError
from gemstead.spec.variants import VARIANTS
from gemstead.text.template import render
from gemstead.types import KV_FORMATS
from gemstead.weights.model_file import write_model_gguf
from gemstead.weights.store import open_store

TINY = [name for name in VARIANTS if name.startswith("tiny-")]
EXACT, FORMATS = ("f32", "f16", "bf16"), ("q8_0", "q4_0", "q5_0", "q4_k", "q6_k")


def everybody_asked(spec):
    """The spec with every expert picked for every row: near ties between experts then decide nothing."""
    picks = {"top_k_experts": spec.layers[0].moe.num_experts}
    return replace(spec, layers=tuple(replace(x, moe=replace(x.moe, **picks)) for x in spec.layers))


def values_are_keys():
    """As 12B and 31B are built: V of full layers is the raw K, every layer owns its K/V, two KV heads."""
    spec = realistic(
        hidden_size_per_layer_input=0,
        vocab_size_per_layer_input=0,
        bidirectional_media=True,
        size_class="large",
    )
    layers = []
    for x in spec.layers:
        attention = replace(x.attention, num_kv_heads=2, v_from_k=x.attention.kind == "full")
        layers.append(replace(x, attention=attention, kv_source=x.index, per_layer_width=0))
    return replace(spec, layers=tuple(layers))


SPECS = {
    "e-type": realistic(),
    "k-is-v": values_are_keys(),
    "moe": everybody_asked(
        realistic(experts=True, vocab_size_per_layer_input=0, bidirectional_media=True, size_class="large")
    ),
    "odd-width": realistic(hidden_size=250, vocab_size=4001, vocab_size_per_layer_input=4001),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A GGUF of random weights by spec and format."""
    home = tmp_path_factory.mktemp("native")

    @cache
    def write(name, kind):
        spec = SPECS.get(name) or VARIANTS[name]
        arrays = {n: t.values for n, t in MemoryStore(spec, seed=2).tensors.items()}
        for n, values in arrays.items():
            if n.endswith(("q_norm", "k_norm")):
                values *= len(values) ** -0.25  # as trained models have it: scores of size 1, no chaos
            if n.endswith("router.proj"):
                values *= 30  # so that few picks are near ties
        path = home / f"{name}-{kind}.gguf"
        write_model_gguf(path, spec, arrays, kind)
        return path

    return write


def logits(path, backend, ids, **options):
    with open_store(path) as store:
        opened = open_backend(backend, store, **options)
        try:
            return Runner(opened, page_tokens=8).step({0: ids})[0].values_RV
        finally:
            opened.close()


def divergence(p, q):
    """Kullback-Leibler divergence of each row of logits, in nats."""
    logs = [x.astype(np.float64) - x.max(-1, keepdims=True) for x in (p, q)]
    logs = [x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in logs]
    return (np.exp(logs[0]) * (logs[0] - logs[1])).sum(-1)


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("name", [*TINY, *SPECS])
def test_plain_numbers_give_the_references_logits(file, name, kind):
    ids = np.random.default_rng(3).integers(0, 250, 70)
    wanted, got = (logits(file(name, kind), b, ids) for b in ("reference", "native"))
    close = np.abs(wanted - got).max(axis=1) <= NATIVE_LOGITS
    # Where two experts are nearly tied, a last bit picks the other one, and later rows see that row.
    assert close.mean() >= (0.5 if name == "tiny-26b" else 1.0)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", ["e-type", "k-is-v", "moe"])
def test_quantized_weights_stay_close_to_the_reference(file, name, kind):
    ids = np.random.default_rng(4).integers(0, 4000, 60)
    wanted, got = (logits(file(name, kind), b, ids) for b in ("reference", "native"))
    assert divergence(wanted, got).mean() <= NATIVE_QUANTIZED_KL


@pytest.mark.parametrize("kv", KV_FORMATS)
@pytest.mark.parametrize("kind", ["f32", "q4_0"])
@pytest.mark.parametrize("name", ["e-type", "k-is-v", "moe"])
def test_batch_mates_chunks_and_threads_change_no_bit(file, name, kind, kv):
    rng = np.random.default_rng(5)
    ids = {s: rng.integers(0, 4000, n) for s, n in enumerate((61, 9, 30))}
    with open_store(file(name, kind)) as store:
        one, three = (open_backend("native", store, threads=n, kv=kv) for n in (1, 3))
        whole = {s: Runner(one, page_tokens=16).step({0: i})[0].values_RV for s, i in ids.items()}
        runner, got = Runner(three, page_tokens=16, seed=1), {s: [] for s in ids}
        for start in range(0, 61, 7):
            now = {s: i[start : start + 7] for s, i in ids.items() if start < len(i)}
            for s, out in runner.step(now).items():
                got[s].append(out.values_RV)
        for s in ids:
            assert np.array_equal(np.concatenate(got[s]), whole[s]), f"sequence {s}"
        one.close()
        three.close()


def test_rows_nobody_reads_change_no_bit(file):
    ids = np.random.default_rng(6).integers(0, 4000, 50)
    with open_store(file("e-type", "q8_0")) as store:
        backend = open_backend("native", store, threads=2)
        whole = Runner(backend).step({0: ids}, want_hidden=True)[0]
        runner = Runner(backend)
        assert runner.step({0: ids[:20]}, wanted="none")[0].values_RV.shape == (0, 4096)
        last = runner.step({0: ids[20:]}, wanted="last", want_hidden=True)[0]
        assert np.array_equal(last.values_RV[0], whole.values_RV[49])
        assert np.array_equal(last.hidden_RD[0], whole.hidden_RD[49])
        backend.close()


@pytest.mark.parametrize("name", ["e-type", "k-is-v", "moe"])
def test_k_and_v_in_eight_bits_stay_close(file, name):
    ids = np.random.default_rng(8).integers(0, 4000, 200)
    wanted, got = (logits(file(name, "f32"), "native", ids, kv=kv) for kv in KV_FORMATS)
    assert 0 < divergence(wanted, got).mean() <= NATIVE_KV_KL


@pytest.mark.parametrize("kv", KV_FORMATS)
def test_pebble_stays_within_the_bound(kv):
    with gemstead.open() as model:
        prompt = render([gemstead.Message.user("Convert 5 miles to kilometres.")], BUILT_IN)
        ids = prompt.encode(model.tokenizer)
    wanted, got = (logits(pebble.path(), b, ids, **o) for b, o in (("reference", {}), ("native", {"kv": kv})))
    assert divergence(wanted, got).mean() <= NATIVE_QUANTIZED_KL


def test_eight_bits_cost_half_and_values_alone_half_of_that(file):
    cost = {}
    for name in ("e-type", "k-is-v"):
        with open_store(file(name, "f32")) as store:
            for kv in KV_FORMATS:
                backend = open_backend("native", store, kv=kv)
                cost[name, kv] = backend.capabilities().kv_bytes_per_token
                runner = Runner(backend, page_tokens=8, room=64)
                assert runner.cache.size_bytes == 64 * sum(cost[name, kv])
                assert len(runner.cache.read_page(1, 0)) == 8 * cost[name, kv][1]
                backend.close()
        for pool in (0, 1):
            assert cost[name, "q8_0"][pool] * 64 == cost[name, "f16"][pool] * 34
    sliding, full = SPECS["k-is-v"].pools
    assert cost["k-is-v", "f16"] == (
        2 * 2 * len(sliding.layers) * sliding.num_kv_heads * sliding.head_dim,
        2 * len(full.layers) * full.num_kv_heads * full.head_dim,
    )


@pytest.mark.parametrize("kv", KV_FORMATS)
def test_pages_put_into_another_cache_are_the_same(file, kv):
    ids = np.random.default_rng(10).integers(0, 4000, 41)
    with open_store(file("k-is-v", "f32")) as store:
        backend = open_backend("native", store, kv=kv)
        runner, other = Runner(backend, page_tokens=8), Runner(backend, page_tokens=8)
        runner.step({0: ids[:40]}, wanted="none")
        other.tables, other.cached = {0: [list(t) for t in runner.tables[0]]}, dict(runner.cached)
        other.free = [list(pages) for pages in runner.free]
        for pool, pages in enumerate(runner.tables[0]):
            for page in pages:
                if page >= 0:
                    other.cache.write_page(pool, page, runner.cache.read_page(pool, page))
        wanted = runner.step({0: ids[40:]})[0].values_RV
        assert np.array_equal(other.step({0: ids[40:]})[0].values_RV, wanted)
        backend.close()


@pytest.mark.parametrize("name", ["e-type", "k-is-v"])
def test_a_long_context_is_merged_from_its_parts(file, name):
    """Over several splits of 512 keys, and a page table of small pages."""
    ids = np.random.default_rng(7).integers(0, 4000, 1300)
    with open_store(file(name, "f32")) as store:
        found = {}
        for name in ("reference", "native"):
            runner = Runner(open_backend(name, store), page_tokens=32, room=2048)
            runner.step({0: ids[:1299]}, wanted="none")
            found[name] = runner.step({0: ids[1299:]})[0].values_RV
        assert np.abs(found["reference"] - found["native"]).max() <= NATIVE_LOGITS


def test_what_it_does_not_do_it_says(file):
    with open_store(file("tiny-e2b", "f32")) as store:
        backend = open_backend("native", store)
        runner = Runner(backend)
        with pytest.raises(BackendError, match="a token id is outside the vocabulary"):
            runner.step({0: [5, 9999]})
        backend.close()
        backend.close()
        with pytest.raises(BackendError, match="closed"):
            runner.step({0: [5]})


X86, ARM = ("scalar", "avx2", "avx512"), ("scalar", "neon", "dotprod", "i8mm")
FORCED = """
import sys
import numpy as np
from tests.backend.native.test_backend import logits
from gemstead.backend.native.library import isa_name
ids = np.random.default_rng(4).integers(0, 4000, 60)
found = {str(i): logits(path, "native", ids) for i, path in enumerate(sys.argv[2:])}
np.savez(sys.argv[1], isa=isa_name(), **found)
"""


@cache
def _reference(path):
    return logits(path, "reference", np.random.default_rng(4).integers(0, 4000, 60))


@pytest.mark.parametrize("isa", sorted({*X86, *ARM}))
def test_every_instruction_set_gives_the_references_logits(file, isa, tmp_path, pytestconfig):
    """In a process of its own: what is used is settled once."""
    best = isa_name()
    family = ARM if best in ARM[1:] else X86
    if isa not in family[: family.index(best) + 1]:
        pytest.skip(f"{isa} is not run by this machine, which has {best}")
    files = {
        (name, kind): file(name, kind) for name in ("e-type", "k-is-v", "moe") for kind in ("f32", *FORMATS)
    }
    subprocess.run(
        [sys.executable, "-c", FORCED, tmp_path / "found.npz", *files.values()],
        cwd=pytestconfig.rootpath,
        env={**os.environ, "GEMSTEAD_ISA": isa},
        check=True,
    )
    found = np.load(tmp_path / "found.npz")
    assert found["isa"] == isa
    for i, ((name, kind), path) in enumerate(files.items()):
        wanted, got = _reference(path), found[str(i)]
        if kind == "f32":
            assert np.abs(wanted - got).max() <= NATIVE_LOGITS, (name, kind)
        assert divergence(wanted, got).mean() <= NATIVE_QUANTIZED_KL, (name, kind)


def test_an_instruction_set_the_machine_has_not_is_refused(file, monkeypatch):
    with open_store(file("tiny-e2b", "f32")) as store:
        monkeypatch.setenv("GEMSTEAD_ISA", "sse9")
        with pytest.raises(BackendError, match="GEMSTEAD_ISA names an instruction set"):
            open_backend("native", store)
        monkeypatch.setenv("GEMSTEAD_ISA", "scalar")
        open_backend("native", store).close()


def test_auto_is_this_backend_where_it_can(file, tmp_path, monkeypatch):
    plain = file("tiny-e2b", "f32")
    with open_store(plain) as store:
        backend = open_backend("auto", store)
        assert backend.capabilities().name == "native"
        backend.close()
        monkeypatch.setattr(native_library, "PATH", tmp_path / "none.so")
        backend = open_backend("auto", store)
        assert backend.capabilities().name == "reference"
        backend.close()
    with gemstead.open(plain) as model:
        assert "is not built here: install a C++20 compiler" in model.note
    with gemstead.open(plain, backend="reference") as model:
        assert model.note is None


def test_auto_takes_the_reference_for_what_this_backend_refuses(tmp_path):
    plain = VARIANTS["tiny-e2b"]
    layers = (replace(x, attention=replace(x.attention, head_dim=20, rope_pairs=10)) for x in plain.layers)
    odd = replace(plain, layers=tuple(layers))
    path = tmp_path / "odd.gguf"
    write_model_gguf(path, odd, {n: t.values for n, t in MemoryStore(odd, seed=2).tensors.items()}, "f32")
    with gemstead.open(path) as model:
        assert "needs heads of a multiple of 8" in model.note
        assert np.isfinite(model.logits([1, 2, 3])).all()
    with pytest.raises(BackendError, match="choose the backend reference or torch"):
        gemstead.open(path, backend="native")


def test_heads_that_blocks_do_not_divide_keep_k_and_v_in_f16(file):
    with pytest.raises(
        BackendError, match=r"multiple of 32 to keep K/V in q8_0, and tiny-e2b has some of 16"
    ):
        gemstead.open(file("tiny-e2b", "f32"), backend="native", kv="q8_0")
