"""The vision_config and audio_config of a Gemma 4 config.json -> VisionSpec, AudioSpec.

Facts for media/ and for `gemstead show`. The text forward never reads them, so unlike in hf.py a field
unknown here is passed over: it must not keep a sound text decoder from loading.
"""

from __future__ import annotations

from gemstead.spec.fields import Fields
from gemstead.spec.model import AudioSpec, VisionSpec


def _part(top: Fields, key: str) -> Fields | None:
    return Fields(top.mapping(key), f"{key}.", top.problems) if top.mapping(key) else None


def read_vision(top: Fields) -> VisionSpec | None:
    """The image side; None when the config has no vision_config."""
    part = _part(top, "vision_config")
    if part is None:
        return None
    count_key = "default_output_length" if part.has("default_output_length") else "num_soft_tokens"
    tokens = part.integer(count_key, top.integer("vision_soft_tokens_per_image", 280))
    patch_size, pooling = part.integer("patch_size", 16), part.integer("pooling_kernel_size", 3)
    if "unified" in str(part.values.get("model_type")):
        return VisionSpec(
            hidden_size=part.integer("mm_embed_dim", 3840),
            patch_size=patch_size,
            pooling_kernel_size=pooling,
            default_output_tokens=tokens,
            encoder=False,
            position_embedding_size=part.integer("mm_posemb_size", 1120),
            rms_norm_eps=part.number("rms_norm_eps", 1e-6),
        )
    rope = Fields(
        part.mapping("rope_parameters") or part.values, "vision_config.rope_parameters.", top.problems
    )
    return VisionSpec(
        hidden_size=part.integer("hidden_size", 768),
        patch_size=patch_size,
        pooling_kernel_size=pooling,
        default_output_tokens=tokens,
        num_layers=part.integer("num_hidden_layers", 16),
        num_heads=part.integer("num_attention_heads", 12),
        num_kv_heads=part.integer("num_key_value_heads", 12),
        head_dim=part.integer("head_dim", 64),
        intermediate_size=part.integer("intermediate_size", 3072),
        position_embedding_size=part.integer("position_embedding_size", 10_240),
        rope_theta=rope.number("rope_theta", 100.0),
        rms_norm_eps=part.number("rms_norm_eps", 1e-6),
        use_clipped_linears=part.flag("use_clipped_linears", False),
        standardize=part.flag("standardize", False),
    )


def read_audio(top: Fields) -> AudioSpec | None:
    """The sound side; None when the config has no audio_config."""
    part = _part(top, "audio_config")
    if part is None:
        return None
    eps = part.number("rms_norm_eps", 1e-6)
    if "unified" in str(part.values.get("model_type")):
        return AudioSpec(hidden_size=part.integer("audio_embed_dim", 640), encoder=False, rms_norm_eps=eps)
    return AudioSpec(
        hidden_size=part.integer("hidden_size", 1024),
        num_layers=part.integer("num_hidden_layers", 12),
        num_heads=part.integer("num_attention_heads", 8),
        subsampling_conv_channels=part.token_ids("subsampling_conv_channels") or (128, 32),
        conv_kernel_size=part.integer("conv_kernel_size", 5),
        residual_weight=part.number("residual_weight", 0.5),
        attention_chunk_size=part.integer("attention_chunk_size", 12),
        attention_context_left=part.integer("attention_context_left", 13, minimum=0),
        attention_context_right=part.integer("attention_context_right", 0, minimum=0),
        attention_logit_cap=part.number("attention_logit_cap", 50.0),
        output_proj_dims=part.integer("output_proj_dims", 1536),
        rms_norm_eps=eps,
        use_clipped_linears=part.flag("use_clipped_linears", True),
    )
