"""Building layers from few facts, and finding what cannot be run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gemstead.spec.layers import Stack, build_layers, contradictions, drafter_mismatches, pattern, rope_pairs
from gemstead.spec.model import AttentionSpec
from gemstead.spec.variants import DRAFTERS, VARIANTS

SLIDING = AttentionSpec("sliding", 4, 2, 16, 8, 1e4, 8)
FULL = AttentionSpec("full", 4, 1, 32, None, 1e6, 4)
KINDS = {"sliding": SLIDING, "full": FULL}


@pytest.mark.parametrize(
    ("num_layers", "period", "full"), [(6, 6, [5]), (7, 6, [5, 6]), (4, 6, [3]), (1, 5, [0]), (6, 3, [2, 5])]
)
def test_pattern(num_layers, period, full):
    assert [i for i, kind in enumerate(pattern(num_layers, period)) if kind == "full"] == full


@pytest.mark.parametrize(
    ("head_dim", "fraction", "pairs"), [(512, 0.25, 64), (22, 0.25, 2), (32, 1.0, 16), (16, 0.0, 0)]
)
def test_rope_pairs(head_dim, fraction, pairs):
    assert rope_pairs(head_dim, fraction) == pairs


def test_shared_layers_read_the_last_owner_of_their_kind():
    layers = build_layers(Stack(pattern(9, 3), KINDS, [10] * 9, num_kv_shared_layers=4))
    assert [x.kv_source for x in layers] == [0, 1, 2, 3, 4, 2, 4, 4, 2]
    assert [x.owns_kv for x in layers] == [True] * 5 + [False] * 4


def test_sharing_without_a_source_is_a_contradiction():
    layers = build_layers(Stack(pattern(3, 3), KINDS, [10] * 3, num_kv_shared_layers=1))
    assert layers[2].kv_source is None
    found = contradictions(replace(VARIANTS["tiny-12b"], layers=layers))
    assert len(found) == 1
    assert "layer 2 (full) shares K/V" in found[0]


def test_each_contradiction_is_told_once():
    bad = {"sliding": replace(SLIDING, num_heads=5, head_dim=7, rope_pairs=4), "full": FULL}
    spec = replace(VARIANTS["tiny-12b"], layers=build_layers(Stack(pattern(6, 3), bad, [10] * 6)))
    found = contradictions(spec)
    assert len(found) == 3
    assert all(problem.startswith("sliding layers") for problem in found)


def test_drafter_fits_its_own_target_only():
    assert drafter_mismatches(VARIANTS["31b"], DRAFTERS["31b"]) == []
    found = drafter_mismatches(VARIANTS["12b"], DRAFTERS["31b"])
    assert len(found) == 3
    assert found[0] == "it reads hidden states of 5376, not 3840"
    assert found[1] == "its sliding layers read 16 KV heads of 256, the target keeps 8 of 256"
    assert found[2] == "its full layers read 4 KV heads of 512, the target keeps 1 of 512"


def test_drafter_of_a_target_without_its_kind_of_layers():
    target = VARIANTS["tiny-12b"]
    full_only = build_layers(Stack(["full"], KINDS, [10]))
    found = drafter_mismatches(replace(target, layers=full_only), DRAFTERS["tiny-12b"])
    assert found == ["it reads sliding layers, which the target has not"]
