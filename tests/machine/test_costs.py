"""Bytes and operations of a step, against numbers worked out by hand and by another program."""

import math

import pytest

from gemstead.machine.costs import Cost, Costs, Step, _pairs
from gemstead.spec.tensors import text_tensors
from gemstead.spec.variants import VARIANTS

BITS = {"f32": 32, "q4_0": 4.5, "q6_k": 6.5625, "bf16": 16}


def costs_of(name, format_of=lambda _: "f32", kv_value_bytes=2):
    spec = VARIANTS[name]
    sizes = {row.name: int(math.prod(row.shape) * BITS[format_of(row)] / 8) for row in text_tensors(spec)}
    per_token = [2 * kv_value_bytes * len(p.layers) * p.num_kv_heads * p.head_dim for p in spec.pools]
    return Costs(spec, sizes, per_token)


def as_llama_quantize(row):
    """E2B in Q4_0: tables Q6_K, the projection of the per-layer table BF16, vectors F32."""
    if len(row.shape) == 1:
        return "f32"
    if row.name.startswith("embed_tokens"):
        return "q6_k"
    return "bf16" if row.name == "per_layer_model_projection" else "q4_0"


def test_a_decoded_token_of_e2b():
    """1.406 GB and 73 MB of K/V at depth 4096: shared/perf.md, section 2."""
    costs = costs_of("e2b", as_llama_quantize)
    assert costs.of(Step()).weight_bytes == pytest.approx(1.406e9, rel=2e-3)
    assert costs.of(Step(depth=4096)).kv_bytes == pytest.approx(73e6, rel=0.02)
    assert costs.kv_held(4096) == pytest.approx(31e6, rel=0.03)


def test_a_prompt_stops_after_the_last_layer_with_kv():
    """1.20 GOP a token for a prompt of 512 of E2B, 3.84 when every row gets logits: same source."""
    costs = costs_of("e2b", as_llama_quantize)
    head = 2 * 262_144 * 1536
    read = costs.of(Step(rows=512))
    assert (read.operations - head) / 512 == pytest.approx(1.20e9, rel=0.01)
    scored = costs.of(Step(rows=512, logit_rows=512))
    assert scored.operations / 512 - head == pytest.approx(3.84e9, rel=0.01)
    assert scored.weight_bytes == read.weight_bytes


def test_rows_without_logits_read_no_head():
    costs = costs_of("tiny-e2b")
    spec = VARIANTS["tiny-e2b"]
    more = costs.of(Step(rows=4)).weight_bytes - costs.of(Step(rows=4, logit_rows=0)).weight_bytes
    assert more > spec.vocab_size * spec.hidden_size * 4


def test_only_the_experts_that_are_chosen_are_read():
    """One token of 26B-A4B reads 2.377 GB of Q4_0 as llama-quantize writes it: perf.md, section 3."""
    costs = costs_of("26b-a4b", lambda row: "q4_0" if row.may_quantize else "f32")
    spec = VARIANTS["26b-a4b"]
    finer_head = spec.vocab_size * spec.hidden_size * (6.5625 - 4.5) / 8
    assert costs.of(Step()).weight_bytes + finer_head == pytest.approx(2.377e9, rel=0.02)
    one, two, many = (costs.of(Step(sequences=n)).weight_bytes for n in (1, 2, 10_000))
    assert one < two < 2 * one
    experts = sum(math.prod(r.shape) for r in text_tensors(spec) if ".experts." in r.name)
    dense = one - experts * 4.5 / 8 * 8 / 128
    assert many - 9_999 * spec.hidden_size * 4.5 / 8 == pytest.approx(dense + experts * 4.5 / 8, rel=1e-6)


def test_sequences_share_the_weights_but_not_the_kv():
    costs = costs_of("tiny-12b")
    one, four = costs.of(Step(depth=100)), costs.of(Step(depth=100, sequences=4))
    assert four.kv_bytes == 4 * one.kv_bytes
    assert four.operations == 4 * one.operations
    assert four.weight_bytes == pytest.approx(one.weight_bytes, rel=0.01)


def test_a_window_limits_what_is_read_and_held():
    costs = costs_of("tiny-12b")
    spec = VARIANTS["tiny-12b"]
    full = next(p for p in spec.pools if p.window is None)
    per_token = 4 * len(full.layers) * full.num_kv_heads * full.head_dim
    assert costs.of(Step(depth=300)).kv_bytes - costs.of(Step(depth=200)).kv_bytes == 100 * per_token
    assert costs.kv_held(300) - costs.kv_held(200) == 100 * per_token


@pytest.mark.parametrize("window", [None, 1, 2, 7, 100])
@pytest.mark.parametrize(("first", "stop"), [(0, 0), (0, 1), (0, 9), (3, 9), (50, 60)])
def test_pairs_are_counted_one_by_one(first, stop, window):
    counted = sum(min(t + 1, window or t + 1) for t in range(first, stop))
    assert _pairs(first, stop, window) == counted


def test_the_slower_of_memory_and_compute_decides():
    cost = Cost(weight_bytes=60.0, kv_bytes=40.0, operations=1000.0)
    assert cost.bytes == 100.0
    assert cost.seconds(bytes_s=10.0, operations_s=1e9) == 10.0
    assert cost.seconds(bytes_s=1e9, operations_s=10.0) == 100.0
    assert cost.times(3) == Cost(180.0, 120.0, 3000.0)
