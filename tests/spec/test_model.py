"""What a spec derives from its layers: pools, owners, the last layer a prompt needs."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from gemstead.spec.variants import DRAFTERS, VARIANTS


def test_pools_of_a_sharing_model():
    spec = VARIANTS["tiny-e2b"]
    sliding, full = spec.pools
    assert (sliding.kind, sliding.layers, sliding.window) == ("sliding", (0, 1, 3, 4), 8)
    assert (full.kind, full.layers, full.window) == ("full", (2, 5), None)
    assert spec.pool_of_layer == (0, 0, 1, 0, 0, 1, 0, 0, 1)
    assert spec.last_kv_layer == 5
    assert (spec.last_kv_layer_of("sliding"), spec.last_kv_layer_of("full")) == (4, 5)


def test_v_from_k_is_a_fact_of_the_full_pool():
    assert [pool.v_from_k for pool in VARIANTS["tiny-12b"].pools] == [False, True]
    assert [pool.v_from_k for pool in VARIANTS["tiny-e2b"].pools] == [False, False]


def test_equal_layers_share_a_pool_whatever_their_width():
    spec = VARIANTS["tiny-12b"]
    wide = replace(spec, layers=tuple(replace(x, intermediate_size=32 * (x.index + 1)) for x in spec.layers))
    assert wide.pools == spec.pools


def test_numbers_of_layers():
    assert VARIANTS["31b"].num_layers == 60
    assert DRAFTERS["31b"].num_layers == 4


def test_specs_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        VARIANTS["e2b"].hidden_size = 1  # type: ignore[misc]
