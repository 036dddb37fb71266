"""Specs -> config.json: read back by us and by transformers; what has no words is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gemstead.errors import ConfigError
from gemstead.spec.describe import config_of, metadata_of, rope_freqs_of
from gemstead.spec.hf import drafter_from_config, model_from_config
from gemstead.spec.variants import DRAFTERS, VARIANTS


@pytest.mark.parametrize("name", VARIANTS)
def test_model_there_and_back(name):
    config = json.loads(json.dumps(config_of(VARIANTS[name])))
    assert model_from_config(config, name) == replace(VARIANTS[name], vision=None, audio=None)


@pytest.mark.parametrize("name", DRAFTERS)
def test_drafter_there_and_back(name):
    config = json.loads(json.dumps(config_of(DRAFTERS[name])))
    assert drafter_from_config(config, DRAFTERS[name].name) == DRAFTERS[name]


@pytest.mark.parametrize("name", ["tiny-e2b", "tiny-26b"])
def test_transformers_reads_it_the_same_way(name):
    pytest.importorskip("torch", reason="transformers needs torch")
    transformers = pytest.importorskip("transformers", reason="compares with transformers")
    config = transformers.Gemma4TextConfig(**config_of(VARIANTS[name]))
    spec = VARIANTS[name]
    assert model_from_config(json.loads(config.to_json_string()), name).layers == spec.layers
    shapes = [(x.num_key_value_heads, x.head_dim) for x in config.per_layer_config]
    assert shapes == [(x.attention.num_kv_heads, x.attention.head_dim) for x in spec.layers]


@pytest.mark.parametrize("pairs", range(12))
def test_any_number_of_turning_pairs_survives(pairs):
    spec = VARIANTS["tiny-12b"]
    layers = tuple(
        replace(x, attention=replace(x.attention, head_dim=22, rope_pairs=min(pairs, 11), rope_factor=3.0))
        if x.attention.kind == "full"
        else x
        for x in spec.layers
    )
    odd = replace(spec, layers=layers)
    assert model_from_config(config_of(odd), odd.name) == odd
    assert rope_freqs_of(odd) == [3.0] * min(pairs, 11) + [1e30] * (11 - min(pairs, 11))


def test_widths_only_a_gguf_can_say():
    spec = VARIANTS["tiny-12b"]
    layers = (replace(spec.layers[0], intermediate_size=64), *spec.layers[1:])
    with pytest.raises(ConfigError, match="write a GGUF instead"):
        config_of(replace(spec, layers=layers))
    widths = metadata_of(replace(spec, layers=layers))["gemma4.feed_forward_length"]
    assert widths == [64, 96, 96, 96, 96, 96]


def test_a_decoder_of_sliding_layers_has_no_rope_freqs():
    spec = VARIANTS["tiny-12b"]
    assert rope_freqs_of(replace(spec, layers=spec.layers[:3])) == []
