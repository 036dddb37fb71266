"""Names and shapes of spec/tensors.py against every tensor of the released files and the gguf package."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gemstead.spec.tensors import drafter_tensors, is_ignorable, text_tensors, unsupported_reason
from gemstead.spec.variants import DRAFTERS, VARIANTS
from support.released import NAMES, released_tensors

CANONICAL = {
    "embed_tokens",
    "norm",
    "embed_tokens_per_layer",
    "per_layer_model_projection",
    "per_layer_projection_norm",
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
    "layer_scalar",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "self_attn.q_norm",
    "self_attn.k_norm",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
    "per_layer_input_gate",
    "per_layer_projection",
    "post_per_layer_input_norm",
    "router.proj",
    "router.scale",
    "router.per_expert_scale",
    "experts.gate_up_proj",
    "experts.down_proj",
    "pre_feedforward_layernorm_2",
    "post_feedforward_layernorm_1",
    "post_feedforward_layernorm_2",
}


def bare(name: str) -> str:
    return name.split(".", 2)[2] if name.startswith("layers.") else name


@pytest.mark.parametrize("name", NAMES)
def test_model_tensors_are_the_released_ones(name):
    spec, released = VARIANTS[name], released_tensors(name)
    for row in text_tensors(spec):
        found = [alias for alias in row.hf_names if alias in released]
        assert len(found) == 1, row
        assert released.pop(found[0]) == row.shape
    assert [left for left in released if not is_ignorable(left, spec)] == []
    assert not any("language_model" in left for left in released)


@pytest.mark.parametrize("name", NAMES)
def test_drafter_tensors_are_the_released_ones(name):
    released = released_tensors(name, drafter=True)
    for row in drafter_tensors(DRAFTERS[name]):
        found = [alias for alias in row.hf_names if alias in released]
        assert len(found) == 1, row
        assert released.pop(found[0]) == row.shape
    assert not released


@pytest.mark.parametrize(("name", "count"), [("e2b", 540), ("12b", 666), ("26b-a4b", 657), ("31b", 832)])
def test_number_of_gguf_tensors(name, count):
    """Published GGUFs hold these plus rope_freqs, and E2B 60 unused K/V tensors more (MODEL.md 7.2)."""
    assert len(text_tensors(VARIANTS[name])) == count


def test_canonical_names():
    names = {bare(row.name) for spec in VARIANTS.values() for row in text_tensors(spec)}
    assert names == CANONICAL


@pytest.mark.parametrize("name", VARIANTS)
def test_no_name_stands_for_two_tensors(name):
    rows = text_tensors(VARIANTS[name])
    aliases = [alias for row in rows for alias in row.hf_names]
    gguf = [part for row in rows for alternative in row.gguf for part in alternative]
    assert len(set(aliases)) == len(aliases)
    assert len(set(gguf)) == len(gguf)
    assert not any(is_ignorable(alias, VARIANTS[name]) for alias in aliases + gguf)


def test_gguf_names_are_those_of_the_gguf_package():
    gguf = pytest.importorskip("gguf", reason="the gguf package knows the names other tools write")
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA4, 60)
    checked = 0
    for row in (row for spec in VARIANTS.values() for row in text_tensors(spec)):
        known = table.get_name(f"model.{row.hf[0]}", try_suffixes=(".weight",))
        if known is not None and "scale" not in row.name:
            stem = known.removesuffix(".weight")
            assert row.gguf[0][0].removesuffix(".weight") == stem, row
            checked += 1
    assert checked > 1000


def test_split_experts_join_to_the_fused_shape():
    row = next(x for x in text_tensors(VARIANTS["tiny-26b"]) if x.name == "layers.3.experts.gate_up_proj")
    assert row.shape == (8, 64, 64)
    assert row.gguf == (
        ("blk.3.ffn_gate_up_exps.weight",),
        ("blk.3.ffn_gate_exps.weight", "blk.3.ffn_up_exps.weight"),
    )


def test_only_matrices_may_be_quantized_and_never_the_router():
    rows = {row.name: row for spec in VARIANTS.values() for row in text_tensors(spec)}
    quantized = {bare(name) for name, row in rows.items() if row.may_quantize}
    assert all(len(row.shape) >= 2 for row in rows.values() if row.may_quantize)
    assert "router.proj" not in quantized
    assert {"embed_tokens", "mlp.down_proj", "experts.down_proj"} <= quantized


def test_ordering_is_integers():
    rows = drafter_tensors(DRAFTERS["tiny-e2b"])
    assert [row.name for row in rows if row.integer] == ["masked_embedding.token_ordering"]
    assert not any(row.integer for row in drafter_tensors(DRAFTERS["tiny-12b"]))


@pytest.mark.parametrize(
    "name",
    [
        "lm_head.weight",
        "model.language_model.lm_head.weight",
        "output.weight",
        "rope_freqs.weight",
        "model.language_model.rotary_emb.full_attention_inv_freq",
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.vision_tower.std_bias",
        "model.audio_tower.output_proj.bias",
        "model.embed_vision.embedding_projection.weight",
        "model.embed_audio.embedding_projection.weight",
        "model.vision_embedder.patch_dense.weight",
        "v.blk.0.attn_q.weight",
        "a.conv1d.0.weight",
        "mm.input_projection.weight",
        "model.language_model.layers.6.self_attn.k_proj.weight",
        "model.layers.8.self_attn.v_proj.weight",
        "layers.7.self_attn.k_norm.weight",
        "blk.6.attn_k.weight",
        "blk.8.attn_v.weight",
        "blk.7.attn_k_norm.weight",
    ],
)
def test_passed_over(name):
    assert is_ignorable(name, VARIANTS["tiny-e2b"])


@pytest.mark.parametrize(
    "name",
    [
        "model.language_model.layers.5.self_attn.k_proj.weight",
        "blk.5.attn_k.weight",
        "blk.9.attn_k.weight",
        "model.layers.99.self_attn.v_proj.weight",
        "blk.6.attn_q.weight",
        "model.layers.6.self_attn.v_proj.bias",
        "some.other.tensor",
        "model.norm.weight",
        "",
    ],
)
def test_not_passed_over(name):
    assert not is_ignorable(name, VARIANTS["tiny-e2b"])


def test_centroids_in_the_file_of_a_dense_drafter_are_passed_over():
    dense = replace(DRAFTERS["tiny-e2b"], num_centroids=0, centroid_top_k=0)
    assert is_ignorable("masked_embd_centroids.weight", dense)
    assert is_ignorable("masked_embd_ordering", dense)


@pytest.mark.parametrize(
    "name", ["blk.0.attn_qkv.weight", "blk.3.attn_q.bias", "model.layers.1.self_attn.q_proj.bias"]
)
def test_reason_against_a_file(name):
    assert name in (unsupported_reason(name) or "")


def test_no_reason_against_a_usual_name():
    names = [part for row in text_tensors(VARIANTS["tiny-26b"]) for part in (*row.hf_names, row.gguf[0][0])]
    assert [name for name in names if unsupported_reason(name)] == []
