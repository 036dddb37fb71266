"""GGUF metadata -> specs: there and back, the real file's keys, what tensors add, and everything refused."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest

from gemstead.errors import ConfigError
from gemstead.spec.describe import metadata_of, rope_freqs_of
from gemstead.spec.gguf import Tensors, drafter_from_metadata, model_from_metadata
from gemstead.spec.model import ModelSpec
from gemstead.spec.tensors import drafter_tensors, text_tensors
from gemstead.spec.variants import DRAFTERS, VARIANTS


def text_only(spec: ModelSpec) -> ModelSpec:
    return replace(spec, vision=None, audio=None)


def tensors_of(spec) -> Tensors:
    rows = text_tensors(spec) if isinstance(spec, ModelSpec) else drafter_tensors(spec)
    return Tensors({row.gguf[0][0]: row.shape for row in rows}, rope_freqs_of(spec))


def as_stored(values: dict[str, Any]) -> dict[str, Any]:
    """Floats as they come back from float32."""
    return {
        key: struct.unpack("f", struct.pack("f", value))[0] if isinstance(value, float) else value
        for key, value in values.items()
    }


@pytest.fixture
def meta() -> dict[str, Any]:
    return metadata_of(VARIANTS["tiny-e2b"])


def problems(meta: dict[str, Any], tensors: Tensors | None = None) -> list[str]:
    with pytest.raises(ConfigError) as error:
        model_from_metadata(meta, "m", 256, tensors)
    return str(error.value).split("\n  - ")[1:]


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("with_tensors", [True, False])
def test_model_there_and_back(name, with_tensors):
    spec = VARIANTS[name]
    tensors = tensors_of(spec) if with_tensors else None
    assert model_from_metadata(as_stored(metadata_of(spec)), name, spec.vocab_size, tensors) == text_only(
        spec
    )


@pytest.mark.parametrize("name", DRAFTERS)
def test_drafter_there_and_back(name):
    spec = DRAFTERS[name]
    meta = as_stored(metadata_of(spec))
    assert drafter_from_metadata(meta, spec.name, spec.vocab_size, tensors_of(spec)) == spec


# The keys of ggml-vocab-gemma-4.gguf, made from the published 26B-A4B (MODEL.md section 5).
PUBLISHED_26B = {
    "general.architecture": "gemma4",
    "general.type": "model",
    "general.file_type": 1,
    "general.quantization_version": 2,
    "gemma4.block_count": 30,
    "gemma4.context_length": 262_144,
    "gemma4.embedding_length": 2816,
    "gemma4.feed_forward_length": 2112,
    "gemma4.attention.head_count": 16,
    "gemma4.attention.head_count_kv": [8, 8, 8, 8, 8, 2] * 5,
    "gemma4.rope.freq_base": 1_000_000.0,
    "gemma4.rope.freq_base_swa": 10_000.0,
    "gemma4.attention.layer_norm_rms_epsilon": 9.999999974752427e-07,
    "gemma4.expert_count": 128,
    "gemma4.expert_used_count": 8,
    "gemma4.attention.key_length": 512,
    "gemma4.attention.value_length": 512,
    "gemma4.final_logit_softcapping": 30.0,
    "gemma4.attention.sliding_window": 1024,
    "gemma4.attention.shared_kv_layers": 0,
    "gemma4.embedding_length_per_layer_input": 0,
    "gemma4.attention.sliding_window_pattern": [True, True, True, True, True, False] * 5,
    "gemma4.attention.key_length_swa": 256,
    "gemma4.attention.value_length_swa": 256,
    "gemma4.expert_feed_forward_length": 704,
    "gemma4.rope.dimension_count": 512,
    "gemma4.rope.dimension_count_swa": 256,
    "tokenizer.ggml.model": "gemma4",
    "tokenizer.ggml.bos_token_id": 2,
    "tokenizer.ggml.eos_token_id": 1,
    "tokenizer.ggml.unknown_token_id": 3,
    "tokenizer.ggml.padding_token_id": 0,
    "tokenizer.ggml.mask_token_id": 4,
    "tokenizer.ggml.add_space_prefix": False,
    "tokenizer.ggml.add_bos_token": True,
}


def test_the_published_keys_of_26b():
    pieces = [f"piece {i}" for i in range(128)]
    pieces[50], pieces[106] = "<|tool_response>", "<turn|>"
    spec = model_from_metadata(PUBLISHED_26B | {"tokenizer.ggml.tokens": pieces}, "26b-a4b", 262_144)
    expected = text_only(VARIANTS["26b-a4b"])
    assert replace(spec, tokens=expected.tokens) == expected
    assert set(spec.tokens.eos) == {1, 106, 50}


def test_optional_keys_have_defaults(meta):
    for key in ("context_length", "attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.freq_base_swa"):
        del meta[f"gemma4.{key}"]
    for key in ("rope.dimension_count", "rope.dimension_count_swa", "attention.value_length"):
        del meta[f"gemma4.{key}"]
    spec = model_from_metadata(meta, "tiny-e2b", 256)
    assert spec == replace(VARIANTS["tiny-e2b"], max_position_embeddings=131_072)


def test_numbers_for_all_layers_and_periods():
    meta = metadata_of(VARIANTS["tiny-31b"])
    meta |= {"gemma4.attention.head_count_kv": 2, "gemma4.attention.sliding_window_pattern": 3}
    spec = model_from_metadata(meta, "m", 256)
    assert [x.attention.kind for x in spec.layers] == ["sliding", "sliding", "full"] * 2
    assert {x.attention.num_kv_heads for x in spec.layers} == {2}


def test_widths_may_differ_by_layer(meta):
    widths = [32 * (i + 1) for i in range(9)]
    meta["gemma4.feed_forward_length"] = widths
    assert [x.intermediate_size for x in model_from_metadata(meta, "m", 256).layers] == widths


def test_arrays_that_are_not_lists(meta):
    class Array:
        def __init__(self, values):
            self.values = values

        def __len__(self):
            return len(self.values)

        def tolist(self):
            return self.values

    lazy = {key: Array(value) if isinstance(value, list) else value for key, value in meta.items()}
    assert model_from_metadata(lazy, "tiny-e2b", 256) == VARIANTS["tiny-e2b"]


def test_no_softcap_is_an_absent_or_zero_key(meta):
    del meta["gemma4.final_logit_softcapping"]
    assert model_from_metadata(meta, "m", 256).final_logit_softcapping is None
    meta["gemma4.final_logit_softcapping"] = 0.0
    assert model_from_metadata(meta, "m", 256).final_logit_softcapping is None


def test_missing_v_matrices_say_that_k_is_v():
    spec = VARIANTS["tiny-31b"]
    stored = tensors_of(spec)
    assert model_from_metadata(metadata_of(spec), "m", 256, stored).layers[-1].attention.v_from_k
    separate = Tensors(stored.shapes | {"blk.5.attn_v.weight": (64, 64)}, stored.rope_freqs)
    assert not model_from_metadata(metadata_of(spec), "m", 256, separate).layers[-1].attention.v_from_k


def test_v_matrices_in_some_full_layers_only(meta):
    stored = tensors_of(VARIANTS["tiny-e2b"])
    shapes = {key: value for key, value in stored.shapes.items() if key != "blk.2.attn_v.weight"}
    assert any("full layers [2] have no attn_v" in problem for problem in problems(meta, Tensors(shapes)))


def test_height_of_the_per_layer_table(meta):
    stored = tensors_of(VARIANTS["tiny-e2b"])
    shapes = stored.shapes | {"per_layer_token_embd.weight": (300, 288)}
    assert model_from_metadata(meta, "m", 256, Tensors(shapes)).vocab_size_per_layer_input == 300


@pytest.mark.parametrize(
    ("freqs", "pairs", "factor"),
    [([1.0] * 16, 16, 1.0), ([1e30] * 16, 0, 1.0), ([8.0] * 3 + [1e30] * 13, 3, 8.0), (None, 4, 1.0)],
)
def test_rope_freqs(meta, freqs, pairs, factor):
    spec = model_from_metadata(meta, "m", 256, Tensors(tensors_of(VARIANTS["tiny-e2b"]).shapes, freqs))
    full = spec.layers[-1].attention
    assert (full.rope_pairs, full.rope_factor) == (pairs, factor)
    assert spec.layers[0].attention.rope_pairs == 8


BROKEN = [[1.0] * 15, [], [float("nan")] * 16, [1.0, 2.0] + [1e30] * 14, [1e30] + [1.0] * 15, [0.0] * 16]


@pytest.mark.parametrize("freqs", [*BROKEN, [-1.0] * 16])
def test_rope_freqs_that_are_none(meta, freqs):
    found = problems(meta, Tensors(tensors_of(VARIANTS["tiny-e2b"]).shapes, freqs))
    assert any("rope_freqs.weight" in problem for problem in found)


def test_ends_of_a_turn_come_from_keys_and_pieces(meta):
    del meta["tokenizer.ggml.eos_token_id"]
    meta["tokenizer.ggml.tokens"] = ["<pad>", "<eos>", "<bos>", "<turn|>", "a", "<|tool_response>"]
    assert model_from_metadata(meta, "m", 256).tokens.eos == (3, 5)
    meta |= {"tokenizer.ggml.eos_token_id": 1, "tokenizer.ggml.eot_token_id": 3}
    assert model_from_metadata(meta, "m", 256).tokens.eos == (1, 3, 5)


def test_suppressed_tokens(meta):
    meta["tokenizer.ggml.suppress_tokens"] = [5, 258_882]
    assert model_from_metadata(meta, "m", 256).tokens.suppressed == (5,)


def test_drafter_without_centroids_scores_the_whole_vocabulary():
    spec = DRAFTERS["tiny-e2b"]
    dense = drafter_from_metadata(metadata_of(spec), "d", 256)
    assert (dense.num_centroids, dense.centroid_top_k) == (0, 0)
    shapes = dict(tensors_of(spec).shapes)
    del shapes["masked_embd_ordering"]
    assert drafter_from_metadata(metadata_of(spec), "d", 256, Tensors(shapes)).num_centroids == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"block_count": None}, ["gemma4.block_count", "missing"]),
        ({"block_count": 2**40}, ["gemma4.block_count", "1024"]),
        ({"block_count": 8}, ["sliding_window_pattern", "list of 9", "8"]),
        ({"embedding_length": 0}, ["gemma4.embedding_length", "0"]),
        ({"feed_forward_length": [1, 2]}, ["gemma4.feed_forward_length", "[1, 2]", "9"]),
        ({"feed_forward_length": [0] * 9}, ["gemma4.feed_forward_length", "at least 1"]),
        ({"attention.head_count": "four"}, ["gemma4.attention.head_count", "'four'"]),
        ({"attention.head_count_kv": 3}, ["num_attention_heads 4", "num_key_value_heads 3"]),
        ({"attention.head_count_kv": [1, 2] + [1] * 7}, ["sliding layers", "must agree"]),
        ({"attention.key_length": None}, ["gemma4.attention.key_length", "missing"]),
        ({"attention.value_length": 64}, ["gemma4.attention.value_length", "64", "32"]),
        ({"rope.dimension_count_swa": 8}, ["gemma4.rope.dimension_count_swa", "8", "16"]),
        ({"attention.sliding_window": None}, ["gemma4.attention.sliding_window", "missing"]),
        ({"attention.sliding_window_pattern": None}, ["sliding_window_pattern", "null"]),
        ({"attention.sliding_window_pattern": ["x"] * 9}, ["sliding_window_pattern", "truth values"]),
        ({"attention.sliding_window_pattern": [True] * 9}, ["last layer"]),
        ({"attention.shared_kv_layers": 9}, ["gemma4.attention.shared_kv_layers", "9"]),
        ({"attention.shared_kv_layers": 7}, ["layer 2", "shares K/V"]),
        ({"attention.causal": False}, ["gemma4.attention.causal", "false"]),
        ({"final_logit_softcapping": ""}, ["gemma4.final_logit_softcapping is ''", "above 0"]),
        ({"final_logit_softcapping": False}, ["gemma4.final_logit_softcapping is false", "above 0"]),
        ({"attn_logit_softcapping": 50.0}, ["gemma4.attn_logit_softcapping", "50.0"]),
        ({"rope.scaling.type": "yarn"}, ["gemma4.rope.scaling.type", "yarn"]),
        ({"expert_count": 4}, ["gemma4.expert_used_count", "missing"]),
        ({"expert_shared_count": 1}, ["gemma4.expert_shared_count", "not a field"]),
    ],
)
def test_fault_is_named_with_the_value_seen(meta, change, told):
    changed = meta | {f"gemma4.{key}": value for key, value in change.items()}
    found = problems(changed)
    assert any(all(word in problem for word in told) for problem in found), found


def test_all_faults_come_in_one_error(meta):
    changes = {"attention.causal": False, "mystery": 1, "attention.value_length": 5}
    changes |= {"attention.head_count_kv": 3}
    found = problems(meta | {f"gemma4.{key}": value for key, value in changes.items()})
    assert len(found) == 5  # head_count_kv is wrong for both kinds of layers


def test_encoders_in_the_same_file_are_passed_over(meta):
    extra = {"gemma4.vision.block_count": 16, "gemma4.audio.block_count": 12, "general.file_type": 2}
    assert model_from_metadata(meta | extra, "tiny-e2b", 256) == VARIANTS["tiny-e2b"]


@pytest.mark.parametrize(
    ("architecture", "told"),
    [("gemma3", "Gemma 4 only"), ("clip", "mmproj"), ("gemma4-assistant", "drafter="), (None, "null")],
)
def test_other_architectures_are_refused_by_name(meta, architecture, told):
    with pytest.raises(ConfigError, match=r"general\.architecture") as error:
        model_from_metadata(meta | {"general.architecture": architecture}, "m", 256)
    assert told in str(error.value)


def test_model_where_a_drafter_is_wanted(meta):
    with pytest.raises(ConfigError, match="not a drafter"):
        drafter_from_metadata(meta, "d", 256)


def test_drafter_without_backbone_width():
    meta = metadata_of(DRAFTERS["tiny-12b"])
    del meta["gemma4-assistant.embedding_length_out"]
    with pytest.raises(ConfigError, match=r"embedding_length_out is missing"):
        drafter_from_metadata(meta, "d", 256)
