"""A sequence's bits depend on nothing but its own tokens: not on the batch, the chunks or the pages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.support.memory_store import MemoryStore
from tests.support.paging import Runner

from gemstead.backend.reference import ReferenceBackend
from gemstead.spec.layers import Stack, build_layers, pattern
from gemstead.spec.model import AttentionSpec, ModelSpec, MoeSpec
from gemstead.spec.variants import DRAFTERS, VARIANTS

# Products as wide as a real small model's, so that BLAS takes the paths it takes there.
SLIDING = AttentionSpec("sliding", 4, 2, 64, 24, 1e4, 32)
FULL = AttentionSpec("full", 4, 1, 128, None, 1e6, 16)


def realistic(**changes) -> ModelSpec:
    stack = Stack(
        kinds=pattern(6, 3),
        attention={"sliding": SLIDING, "full": FULL},
        widths=[1024] * 4 + [2048] * 2,
        num_kv_shared_layers=2,
        per_layer_width=64,
    )
    moe = MoeSpec(num_experts=16, top_k_experts=3, intermediate_size=128)
    if changes.pop("experts", False):
        stack = replace(stack, moe=moe, num_kv_shared_layers=0, per_layer_width=0)
        changes |= {"hidden_size_per_layer_input": 0}
    spec = ModelSpec(
        name="realistic",
        hidden_size=256,
        vocab_size=4096,
        layers=build_layers(stack),
        max_position_embeddings=4096,
        hidden_size_per_layer_input=64,
        vocab_size_per_layer_input=4096,
    )
    return replace(spec, **changes)


SPECS = {
    "e-type": realistic(),
    "moe": realistic(experts=True),
    "odd-width": realistic(hidden_size=250, vocab_size=4001, vocab_size_per_layer_input=4001),
}


@pytest.fixture(params=SPECS, scope="module")
def backend(request):
    return ReferenceBackend(MemoryStore(SPECS[request.param]))


def alone(backend, ids):
    """Logits of every row of a sequence fed in one piece, alone."""
    return Runner(backend, page_tokens=32).step({0: ids})[0].values_RV


def cut(rng, ids, pieces):
    places = np.sort(rng.choice(np.arange(1, len(ids)), pieces - 1, replace=False))
    return np.split(ids, places)


@pytest.mark.parametrize("seed", range(3))
def test_batch_mates_and_chunks_change_no_bit(backend, seed):
    rng = np.random.default_rng(seed)
    ids = {s: rng.integers(0, 4000, n) for s, n in enumerate(rng.integers(2, 60, 5))}
    chunks = {s: cut(rng, i, int(rng.integers(1, min(len(i), 9)))) for s, i in ids.items()}
    runner, got = Runner(backend, page_tokens=int(rng.choice([1, 4, 16])), seed=seed), {s: [] for s in ids}
    while any(chunks.values()):
        live = [s for s in chunks if chunks[s]]
        rng.shuffle(live)
        now = live[: int(rng.integers(1, len(live) + 1))]
        for s, out in runner.step({s: chunks[s].pop(0) for s in now}).items():
            got[s].append(out.values_RV)
    for s, i in ids.items():
        assert np.array_equal(np.concatenate(got[s]), alone(backend, i)), f"sequence {s} of {len(i)} tokens"


def test_rows_nobody_reads_change_no_bit(backend):
    ids = np.random.default_rng(5).integers(0, 4000, 50)
    whole = Runner(backend).step({0: ids}, want_hidden=True)[0]
    runner = Runner(backend, page_tokens=8)
    assert runner.step({0: ids[:20]}, wanted="none")[0].values_RV.shape == (0, whole.values_RV.shape[1])
    runner.step({0: ids[20:30], 1: ids[:7]}, wanted="none")
    last = runner.step({1: ids[7:9], 0: ids[30:]}, wanted="last", want_hidden=True)
    assert np.array_equal(last[0].values_RV[0], whole.values_RV[49])
    assert np.array_equal(last[0].hidden_RD[0], whole.hidden_RD[49])
    assert np.array_equal(last[1].values_RV[0], whole.values_RV[8])


def test_rolled_back_rows_leave_no_trace(backend):
    ids = np.random.default_rng(6).integers(0, 4000, 40)
    runner = Runner(backend)
    runner.step({0: ids[:20]})
    runner.step({0: ids[5:10]})  # drafted tokens that were refused
    runner.rollback(0, 20)
    assert np.array_equal(runner.step({0: ids[20:]})[0].values_RV, alone(backend, ids)[20:])


def test_draft_steps_do_not_depend_on_batch_mates():
    backend = ReferenceBackend(MemoryStore(VARIANTS["tiny-e2b"]), MemoryStore(DRAFTERS["tiny-e2b"], seed=1))
    rng = np.random.default_rng(7)
    prompts = {s: rng.integers(0, 256, n) for s, n in enumerate((3, 30, 11))}

    def rounds(names):
        runner = Runner(backend)
        hidden = {
            s: o.hidden_RD[-1]
            for s, o in runner.step({s: prompts[s] for s in names}, "last", want_hidden=True).items()
        }
        tokens, seen = dict.fromkeys(names, 5), []
        for _ in range(3):
            out = runner.draft(tokens, hidden)
            hidden = {s: o.hidden_RD[0] for s, o in out.items()}
            tokens = {s: int(o.values_RV[0].argmax()) for s, o in out.items()}
            seen.append({s: o.values_RV[0] for s, o in out.items()})
        return seen

    together = rounds([0, 1, 2])
    for s in prompts:
        for step, single in enumerate(rounds([s])):
            assert np.array_equal(single[s], together[step][s])
