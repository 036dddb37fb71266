"""ModelSpec or DrafterSpec -> config.json, or -> GGUF metadata: what hf.py and gguf.py read back.

For whoever writes weights (weights/, tune/, tests). Describes the text decoder only: the encoders for
images and sound are written by nobody yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gemstead.errors import ConfigError
from gemstead.spec.gguf import DRAFTER_ARCHITECTURE, MODEL_ARCHITECTURE
from gemstead.spec.layers import rope_pairs
from gemstead.spec.model import AttentionKind, AttentionSpec, DrafterSpec, LayerSpec, ModelSpec

_UNTURNED_DIVISOR = 1e30  # what other writers of rope_freqs.weight use for a pair that does not turn


def config_of(spec: ModelSpec | DrafterSpec) -> dict[str, Any]:
    """The config.json of a spec; ConfigError when transformers has no words for it."""
    text = _text_config(spec)
    if isinstance(spec, ModelSpec):
        return text | _token_fields(spec)
    return {
        "model_type": "gemma4_assistant",
        "architectures": ["Gemma4AssistantForCausalLM"],
        "backbone_hidden_size": spec.backbone_hidden_size,
        "use_ordered_embeddings": spec.num_centroids > 0,
        "num_centroids": spec.num_centroids or 2048,
        "centroid_intermediate_top_k": spec.centroid_top_k or 32,
        "tie_word_embeddings": True,
        "text_config": text,
    }


def metadata_of(spec: ModelSpec | DrafterSpec) -> dict[str, Any]:
    """The GGUF keys of a spec: whole numbers (u32), floats (f32), truths, or lists of one of them.

    Goes with the tensor rope_freqs.weight of rope_freqs_of(spec).
    """
    drafter = isinstance(spec, DrafterSpec)
    architecture = DRAFTER_ARCHITECTURE if drafter else MODEL_ARCHITECTURE
    shared = sum(not layer.owns_kv for layer in spec.layers)
    values: dict[str, Any] = {
        "block_count": spec.num_layers,
        "context_length": spec.max_position_embeddings,
        "embedding_length": spec.hidden_size,
        "feed_forward_length": _one_or_list([layer.intermediate_size for layer in spec.layers]),
        "attention.head_count": _one_or_list([layer.attention.num_heads for layer in spec.layers]),
        "attention.head_count_kv": [layer.attention.num_kv_heads for layer in spec.layers],
        "attention.layer_norm_rms_epsilon": spec.rms_norm_eps,
        "attention.shared_kv_layers": shared,
        "attention.sliding_window_pattern": [layer.attention.kind == "sliding" for layer in spec.layers],
        "embedding_length_per_layer_input": 0 if drafter else spec.layers[0].per_layer_width,
    }
    for kind, suffix in (("sliding", "_swa"), ("full", "")):
        for a in _kinds(spec.layers).values():
            if a.kind == kind:
                values |= _attention_keys(a, suffix)
    if spec.final_logit_softcapping is not None:
        values["final_logit_softcapping"] = spec.final_logit_softcapping
    moe = spec.layers[0].moe
    if moe is not None:
        values["expert_count"] = moe.num_experts
        values["expert_used_count"] = moe.top_k_experts
        values["expert_feed_forward_length"] = moe.intermediate_size
    if isinstance(spec, DrafterSpec):
        values["embedding_length_out"] = spec.backbone_hidden_size
        values["nextn_predict_layers"] = spec.num_layers
        if spec.num_centroids:
            values["masked_embedding.top_k"] = spec.centroid_top_k
    described = {f"{architecture}.{key}": value for key, value in values.items()}
    return {"general.architecture": architecture} | described | _token_metadata(spec)


def rope_freqs_of(spec: ModelSpec | DrafterSpec) -> list[float]:
    """The values of rope_freqs.weight: a divisor for each pair of a full layer, 1e30 where none turns."""
    full = _kinds(spec.layers).get("full")
    if full is None:
        return []
    still = full.head_dim // 2 - full.rope_pairs
    return [full.rope_factor] * full.rope_pairs + [_UNTURNED_DIVISOR] * still


def _kinds(layers: Sequence[LayerSpec]) -> dict[AttentionKind, AttentionSpec]:
    return {layer.attention.kind: layer.attention for layer in layers}


def _one_or_list(values: list[int]) -> int | list[int]:
    return values[0] if len(set(values)) == 1 else values


def _attention_keys(a: AttentionSpec, suffix: str) -> dict[str, Any]:
    keys: dict[str, Any] = {
        f"attention.key_length{suffix}": a.head_dim,
        f"attention.value_length{suffix}": a.head_dim,
        f"rope.dimension_count{suffix}": a.head_dim,
        f"rope.freq_base{suffix}": a.rope_theta,
    }
    return keys if a.window is None else keys | {"attention.sliding_window": a.window}


def _token_metadata(spec: ModelSpec | DrafterSpec) -> dict[str, Any]:
    if isinstance(spec, DrafterSpec):
        return {}
    values: dict[str, Any] = {
        "bos_token_id": spec.tokens.bos,
        "padding_token_id": spec.tokens.pad,
        "eos_token_id": spec.tokens.eos[0],
    }
    if len(spec.tokens.eos) > 1:
        values["eos_token_ids"] = list(spec.tokens.eos)
    if spec.tokens.suppressed:
        values["suppress_tokens"] = list(spec.tokens.suppressed)
    return {f"tokenizer.ggml.{key}": value for key, value in values.items()}


def _text_config(spec: ModelSpec | DrafterSpec) -> dict[str, Any]:
    kinds = _kinds(spec.layers)
    first, last = spec.layers[0], spec.layers[-1]
    base = kinds.get("sliding", first.attention)
    shared = sum(not layer.owns_kv for layer in spec.layers)
    wide = last.intermediate_size == 2 * first.intermediate_size
    expected = [first.intermediate_size * (2 if wide and not x.owns_kv else 1) for x in spec.layers]
    if [layer.intermediate_size for layer in spec.layers] != expected:
        raise ConfigError(
            f"describing {spec.name} as config.json: its MLP widths are "
            f"{[layer.intermediate_size for layer in spec.layers]}; allowed are one width for all layers, "
            "or twice as much in the layers that share K/V; write a GGUF instead"
        )
    width = first.per_layer_width
    config: dict[str, Any] = {
        "model_type": "gemma4_text",
        "architectures": ["Gemma4ForCausalLM"],
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "intermediate_size": first.intermediate_size,
        "num_hidden_layers": spec.num_layers,
        "num_attention_heads": first.attention.num_heads,
        "num_key_value_heads": base.num_kv_heads,
        "head_dim": base.head_dim,
        "layer_types": [f"{layer.attention.kind}_attention" for layer in spec.layers],
        "sliding_window": base.window or 512,
        "max_position_embeddings": spec.max_position_embeddings,
        "rms_norm_eps": spec.rms_norm_eps,
        "final_logit_softcapping": spec.final_logit_softcapping,
        "hidden_activation": "gelu_pytorch_tanh",
        "num_kv_shared_layers": shared,
        "use_double_wide_mlp": wide,
        "hidden_size_per_layer_input": width,
        "vocab_size_per_layer_input": spec.vocab_size_per_layer_input if isinstance(spec, ModelSpec) else 0,
        "attention_k_eq_v": any(a.v_from_k for a in kinds.values()),
        "rope_parameters": {f"{kind}_attention": _rope_parameters(a) for kind, a in kinds.items()},
        "per_layer_config": _per_layer_config(spec.layers, base),
        "tie_word_embeddings": True,
    }
    return config | _moe_fields(first)


def _rope_parameters(a: AttentionSpec) -> dict[str, Any]:
    if a.rope_pairs == a.head_dim // 2 and a.rope_factor == 1.0:
        return {"rope_type": "default", "rope_theta": a.rope_theta}
    return {
        "rope_type": "proportional",
        "rope_theta": a.rope_theta,
        "partial_rotary_factor": _fraction(a),
        "factor": a.rope_factor,
    }


def _fraction(a: AttentionSpec) -> float:
    exact = 2 * a.rope_pairs / a.head_dim
    # Readers round down: half a pair more keeps the count where the fraction is not exact.
    return exact if rope_pairs(a.head_dim, exact) == a.rope_pairs else exact + 1 / a.head_dim


def _per_layer_config(layers: Sequence[LayerSpec], base: AttentionSpec) -> dict[str, dict[str, int]]:
    overrides = {
        str(layer.index): {
            "head_dim": layer.attention.head_dim,
            "num_key_value_heads": layer.attention.num_kv_heads,
        }
        for layer in layers
    }
    plain = {"head_dim": base.head_dim, "num_key_value_heads": base.num_kv_heads}
    return {index: values for index, values in overrides.items() if values != plain}


def _moe_fields(first: LayerSpec) -> dict[str, Any]:
    if first.moe is None:
        return {"enable_moe_block": False}
    return {
        "enable_moe_block": True,
        "num_experts": first.moe.num_experts,
        "top_k_experts": first.moe.top_k_experts,
        "moe_intermediate_size": first.moe.intermediate_size,
    }


def _token_fields(spec: ModelSpec) -> dict[str, Any]:
    tokens = spec.tokens
    return {
        "use_bidirectional_attention": "vision" if spec.bidirectional_media else None,
        "bos_token_id": tokens.bos,
        "pad_token_id": tokens.pad,
        "eos_token_id": list(tokens.eos),
        "suppress_tokens": list(tokens.suppressed),
        "boi_token_id": tokens.image_begin,
        "eoi_token_id": tokens.image_end,
        "image_token_id": tokens.image,
        "video_token_id": tokens.video,
        "boa_token_id": tokens.audio_begin,
        "eoa_token_index": tokens.audio_end,
        "audio_token_id": tokens.audio,
    }
