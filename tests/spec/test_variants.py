"""The rows of spec/variants.py against the released models, and against what tests need of tiny ones."""

from __future__ import annotations

import pytest

from gemstead.spec.layers import contradictions, drafter_mismatches
from gemstead.spec.model import ModelSpec
from gemstead.spec.variants import DRAFTERS, VARIANTS
from support.released import NAMES, released_row

TINY = [name for name in VARIANTS if name.startswith("tiny-")]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_model_is_sound(name):
    assert contradictions(VARIANTS[name]) == []
    assert VARIANTS[name].name == name


@pytest.mark.parametrize("name", DRAFTERS)
def test_every_drafter_is_sound_and_fits_its_target(name):
    assert contradictions(DRAFTERS[name]) == []
    assert drafter_mismatches(VARIANTS[name], DRAFTERS[name]) == []


@pytest.mark.parametrize("name", NAMES)
def test_layer_tables_of_the_released_models(name):
    derived = released_row(name)["text_config"]["derived"]
    layers = VARIANTS[name].layers
    assert [x.kv_source for x in layers] == derived["kv_source_layer"]
    assert [x.intermediate_size for x in layers] == derived["mlp_width_per_layer"]
    assert [x.attention.num_kv_heads for x in layers] == derived["kv_heads_per_layer"]
    assert [x.attention.head_dim for x in layers] == derived["head_dim_per_layer"]
    assert [x.index for x in layers if x.attention.kind == "full"] == derived["full_layers"]
    assert [x.index for x in layers if not x.owns_kv][:1] in ([], [derived["first_kv_shared_layer"]])


@pytest.mark.parametrize(
    ("name", "sliding", "full"),
    [("e2b", 13, 14), ("e4b", 22, 23), ("12b", 46, 47), ("26b-a4b", 28, 29), ("31b", 58, 59)],
)
def test_layers_a_drafter_reads(name, sliding, full):
    spec = VARIANTS[name]
    assert (spec.last_kv_layer_of("sliding"), spec.last_kv_layer_of("full")) == (sliding, full)


@pytest.mark.parametrize(
    ("name", "full_bytes"),
    [("e2b", 6144), ("e4b", 16384), ("12b", 16384), ("26b-a4b", 20480), ("31b", 81920)],
)
def test_cache_bytes_per_token(name, full_bytes):
    """16-bit K and V of the full layers, as MODEL.md section 2 counts them."""
    (full,) = [pool for pool in VARIANTS[name].pools if pool.kind == "full"]
    assert len(full.layers) * 2 * full.num_kv_heads * full.head_dim * 2 == full_bytes


@pytest.mark.parametrize("name", NAMES)
def test_flavour_of_the_template(name):
    primed = released_row(name)["empty_thought_prefix_when_not_thinking"]
    assert (VARIANTS[name].size_class == "large") == primed


@pytest.mark.parametrize("name", VARIANTS)
def test_two_pools(name):
    assert {pool.kind for pool in VARIANTS[name].pools} == {"sliding", "full"}


def test_tiny_models_together_show_every_kind_of_layer():
    layers = [layer for name in TINY for layer in VARIANTS[name].layers]
    assert any(layer.moe for layer in layers)
    assert any(layer.per_layer_width for layer in layers)
    assert any(layer.attention.v_from_k for layer in layers)
    assert {layer.attention.kind for layer in layers if not layer.owns_kv} == {"sliding", "full"}
    widths = {layer.intermediate_size for layer in VARIANTS["tiny-e2b"].layers}
    assert len(widths) == 2
    assert len({layer.intermediate_size for layer in VARIANTS["tiny-e4b"].layers}) == 1


@pytest.mark.parametrize("name", TINY)
def test_tiny_models_are_tiny_and_still_awkward(name):
    spec: ModelSpec = VARIANTS[name]
    sliding, full = spec.layers[0].attention, spec.layers[-1].attention
    assert spec.hidden_size <= 64
    assert spec.vocab_size <= 512
    assert sliding.head_dim != full.head_dim
    assert sliding.window is not None
    assert sliding.window <= 16
    assert 0 < full.rope_pairs < full.head_dim // 2


def test_tiny_drafters_have_both_heads():
    assert {DRAFTERS[name].num_centroids > 0 for name in TINY} == {True, False}
