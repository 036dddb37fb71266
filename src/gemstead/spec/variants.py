"""Every model gemstead knows by name, a row each: the Gemma 4 models, their drafters, tiny ones for tests.

Nothing runs these rows: a file on disk is always read through hf.py or gguf.py, and tests check that
both agree with the row here. Sizes come from the released config.json files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from gemstead.spec.layers import Stack, build_layers, pattern, rope_pairs
from gemstead.spec.model import (
    AttentionKind,
    AttentionSpec,
    AudioSpec,
    DrafterSpec,
    ModelSpec,
    MoeSpec,
    TokenIds,
    VisionSpec,
)

SLIDING_ROPE_THETA = 10_000.0
FULL_ROPE_THETA = 1_000_000.0
FULL_ROTARY_FRACTION = 0.25  # p-RoPE: a quarter of the pairs of a full layer turn


_GEMMA_TOKENS = TokenIds()


@dataclass(frozen=True)
class _Row:
    """One variant. Pairs of numbers are (sliding, full); `period` counts up to each full layer."""

    hidden_size: int
    num_layers: int
    period: int
    num_heads: int
    num_kv_heads: tuple[int, int]
    intermediate_size: int
    sliding_window: int
    context: int
    head_dim: tuple[int, int] = (256, 512)
    vocab_size: int = 262_144
    per_layer_width: int = 0
    num_kv_shared_layers: int = 0
    double_wide_mlp: bool = False
    v_from_k: bool = False
    moe: MoeSpec | None = None
    tokens: TokenIds = _GEMMA_TOKENS
    vision: VisionSpec | None = None
    audio: AudioSpec | None = None


@dataclass(frozen=True)
class _DrafterRow:
    """One drafter: what it does not take from its target."""

    hidden_size: int
    num_heads: int
    intermediate_size: int
    num_centroids: int = 0
    centroid_top_k: int = 0


def _attention(row: _Row, num_heads: int) -> dict[AttentionKind, AttentionSpec]:
    (sliding_heads, full_heads), (sliding_dim, full_dim) = row.num_kv_heads, row.head_dim
    sliding = AttentionSpec(
        kind="sliding",
        num_heads=num_heads,
        num_kv_heads=sliding_heads,
        head_dim=sliding_dim,
        window=row.sliding_window,
        rope_theta=SLIDING_ROPE_THETA,
        rope_pairs=sliding_dim // 2,
    )
    full = AttentionSpec(
        kind="full",
        num_heads=num_heads,
        num_kv_heads=full_heads,
        head_dim=full_dim,
        window=None,
        rope_theta=FULL_ROPE_THETA,
        rope_pairs=rope_pairs(full_dim, FULL_ROTARY_FRACTION),
        v_from_k=row.v_from_k,
    )
    return {"sliding": sliding, "full": full}


def _model(name: str, row: _Row) -> ModelSpec:
    owners = row.num_layers - row.num_kv_shared_layers
    wide = 2 if row.double_wide_mlp else 1
    stack = Stack(
        kinds=pattern(row.num_layers, row.period),
        attention=_attention(row, row.num_heads),
        widths=[row.intermediate_size * (1 if i < owners else wide) for i in range(row.num_layers)],
        num_kv_shared_layers=row.num_kv_shared_layers,
        moe=row.moe,
        per_layer_width=row.per_layer_width,
    )
    small = row.per_layer_width > 0
    return ModelSpec(
        name=name,
        hidden_size=row.hidden_size,
        vocab_size=row.vocab_size,
        layers=build_layers(stack),
        max_position_embeddings=row.context,
        hidden_size_per_layer_input=row.per_layer_width,
        vocab_size_per_layer_input=row.vocab_size if small else 0,
        bidirectional_media=not small,
        size_class="small" if small else "large",
        tokens=row.tokens,
        vision=row.vision,
        audio=row.audio,
    )


def _drafter(name: str, target: _Row, row: _DrafterRow) -> DrafterSpec:
    num_layers = 4  # sliding, sliding, sliding, full in every drafter
    # A drafter reads keys and values as they lie in the target's cache, so v_from_k is not its concern.
    stack = Stack(
        kinds=pattern(num_layers, num_layers),
        attention=_attention(replace(target, v_from_k=False), row.num_heads),
        widths=[row.intermediate_size] * num_layers,
        num_kv_shared_layers=num_layers,
        reads_target=True,
    )
    return DrafterSpec(
        name=f"{name}-drafter",
        hidden_size=row.hidden_size,
        backbone_hidden_size=target.hidden_size,
        vocab_size=target.vocab_size,
        layers=build_layers(stack),
        max_position_embeddings=target.context,
        num_centroids=row.num_centroids,
        centroid_top_k=row.centroid_top_k,
    )


_SMALL_VISION = VisionSpec(
    hidden_size=768,
    patch_size=16,
    pooling_kernel_size=3,
    default_output_tokens=280,
    num_layers=16,
    num_heads=12,
    num_kv_heads=12,
    head_dim=64,
    intermediate_size=3072,
    position_embedding_size=10_240,
    use_clipped_linears=True,
)
_LARGE_VISION = replace(
    _SMALL_VISION,
    hidden_size=1152,
    num_layers=27,
    num_heads=16,
    num_kv_heads=16,
    head_dim=72,
    intermediate_size=4304,
    use_clipped_linears=False,
    standardize=True,
)
_UNIFIED_VISION = VisionSpec(
    hidden_size=3840,
    patch_size=16,
    pooling_kernel_size=3,
    default_output_tokens=280,
    encoder=False,
    position_embedding_size=1120,
)
_CONFORMER = AudioSpec(
    hidden_size=1024,
    num_layers=12,
    num_heads=8,
    subsampling_conv_channels=(128, 32),
    conv_kernel_size=5,
    attention_chunk_size=12,
    attention_context_left=13,
    attention_logit_cap=50.0,
    output_proj_dims=1536,
    use_clipped_linears=True,
)
_UNIFIED_AUDIO = AudioSpec(hidden_size=640, encoder=False)

_E2B = _Row(
    hidden_size=1536,
    num_layers=35,
    period=5,
    num_heads=8,
    num_kv_heads=(1, 1),
    intermediate_size=6144,
    sliding_window=512,
    context=131_072,
    per_layer_width=256,
    num_kv_shared_layers=20,
    double_wide_mlp=True,
    vision=_SMALL_VISION,
    audio=_CONFORMER,
)
_31B = _Row(
    hidden_size=5376,
    num_layers=60,
    period=6,
    num_heads=32,
    num_kv_heads=(16, 4),
    intermediate_size=21_504,
    sliding_window=1024,
    context=262_144,
    v_from_k=True,
    vision=_LARGE_VISION,
)
# Tests only: every kind of layer, sizes that block formats of 32 values divide, eos that rarely comes up.
_TINY_E2B = _Row(
    hidden_size=64,
    num_layers=9,
    period=3,
    num_heads=4,
    num_kv_heads=(1, 1),
    intermediate_size=96,
    sliding_window=8,
    context=512,
    head_dim=(16, 32),
    vocab_size=256,
    per_layer_width=32,
    num_kv_shared_layers=3,
    double_wide_mlp=True,
    tokens=TokenIds(eos=(1,)),
)
_TINY_12B = replace(
    _TINY_E2B,
    num_layers=6,
    period=6,
    num_kv_heads=(2, 1),
    per_layer_width=0,
    num_kv_shared_layers=0,
    double_wide_mlp=False,
    v_from_k=True,
)

# The embedded model: E2B's build at a size that two cores train within the hour (recipes/pebble).
_PEBBLE = _Row(
    hidden_size=192,
    num_layers=8,
    period=4,
    num_heads=4,
    num_kv_heads=(1, 1),
    intermediate_size=512,
    sliding_window=128,
    context=4096,
    head_dim=(32, 64),
    vocab_size=4096,
    per_layer_width=32,
    num_kv_shared_layers=4,
    double_wide_mlp=True,
)

_ROWS: Mapping[str, _Row] = {
    "e2b": _E2B,
    "e4b": replace(
        _E2B,
        hidden_size=2560,
        num_layers=42,
        period=6,
        num_kv_heads=(2, 2),
        intermediate_size=10_240,
        num_kv_shared_layers=18,
        double_wide_mlp=False,
    ),
    "12b": replace(
        _31B,
        hidden_size=3840,
        num_layers=48,
        num_heads=16,
        num_kv_heads=(8, 1),
        intermediate_size=15_360,
        tokens=TokenIds(suppressed=(258_883, 258_882)),
        vision=_UNIFIED_VISION,
        audio=_UNIFIED_AUDIO,
    ),
    "26b-a4b": replace(
        _31B,
        hidden_size=2816,
        num_layers=30,
        num_heads=16,
        num_kv_heads=(8, 2),
        intermediate_size=2112,
        moe=MoeSpec(num_experts=128, top_k_experts=8, intermediate_size=704),
    ),
    "31b": _31B,
    "pebble": _PEBBLE,
    "tiny-e2b": _TINY_E2B,
    "tiny-e4b": replace(
        _TINY_E2B,
        num_layers=6,
        num_kv_heads=(2, 2),
        num_kv_shared_layers=2,
        double_wide_mlp=False,
    ),
    "tiny-12b": _TINY_12B,
    "tiny-26b": replace(_TINY_12B, moe=MoeSpec(num_experts=8, top_k_experts=2, intermediate_size=32)),
    "tiny-31b": replace(_TINY_12B, num_heads=8, num_kv_heads=(4, 2), intermediate_size=160),
}

_SMALL_DRAFTER = _DrafterRow(
    hidden_size=256, num_heads=4, intermediate_size=2048, num_centroids=2048, centroid_top_k=32
)
_LARGE_DRAFTER = _DrafterRow(hidden_size=1024, num_heads=16, intermediate_size=8192)
_TINY_CENTROID = _DrafterRow(
    hidden_size=32, num_heads=4, intermediate_size=64, num_centroids=16, centroid_top_k=4
)
_TINY_DENSE = _DrafterRow(hidden_size=32, num_heads=4, intermediate_size=64)

_DRAFTER_ROWS: Mapping[str, _DrafterRow] = {
    "e2b": _SMALL_DRAFTER,
    "e4b": _SMALL_DRAFTER,
    "12b": _LARGE_DRAFTER,
    "26b-a4b": _LARGE_DRAFTER,
    "31b": replace(_LARGE_DRAFTER, num_heads=32),
    "tiny-e2b": _TINY_CENTROID,
    "tiny-e4b": _TINY_CENTROID,
    "tiny-12b": _TINY_DENSE,
    "tiny-26b": _TINY_DENSE,
    "tiny-31b": _TINY_DENSE,
}

VARIANTS: Mapping[str, ModelSpec] = MappingProxyType({name: _model(name, row) for name, row in _ROWS.items()})
"""Models by name."""

DRAFTERS: Mapping[str, DrafterSpec] = MappingProxyType(
    {name: _drafter(name, _ROWS[name], row) for name, row in _DRAFTER_ROWS.items()}
)
"""Drafters by the name of the model they draft for."""
