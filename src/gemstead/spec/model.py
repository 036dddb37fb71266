"""The shape of a Gemma 4 model as flat, frozen records; a layer never asks which model it is in.

Read by every backend and by the engine's page pools. Built by variants.py, hf.py and gguf.py, which
check it; nothing here reads a file. Facts and names follow Hugging Face's config.json.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

AttentionKind = Literal["sliding", "full"]
SizeClass = Literal["small", "large"]


@dataclass(frozen=True)
class AttentionSpec:
    """One layer's attention. Query head n reads KV head n // (num_heads // num_kv_heads); scale is 1.

    `window` counts the query's own position (None: all of the past). RoPE rotates the pairs
    (i, i + head_dim/2) for i < rope_pairs by position * rope_theta^(-2i/head_dim) / rope_factor;
    the other pairs pass. `v_from_k`: the value is the raw key projection (no v_proj tensor).
    """

    kind: AttentionKind
    num_heads: int
    num_kv_heads: int
    head_dim: int
    window: int | None
    rope_theta: float
    rope_pairs: int
    rope_factor: float = 1.0
    v_from_k: bool = False


@dataclass(frozen=True)
class MoeSpec:
    """Routed experts beside the dense MLP: top_k_experts of num_experts, each of the given width."""

    num_experts: int
    top_k_experts: int
    intermediate_size: int


@dataclass(frozen=True)
class LayerSpec:
    """One decoder layer.

    `kv_source` is the index of the layer whose K/V this layer reads: its own index when it owns its
    K/V. None, in a drafter only: the target's last KV-owning layer of the same kind.
    """

    index: int
    attention: AttentionSpec
    kv_source: int | None
    intermediate_size: int
    moe: MoeSpec | None = None
    per_layer_width: int = 0

    @property
    def owns_kv(self) -> bool:
        """Whether this layer writes K/V of its own."""
        return self.kv_source == self.index


@dataclass(frozen=True)
class PoolSpec:
    """The KV-owning layers of equal (num_kv_heads, head_dim, window): they share one pool of pages."""

    kind: AttentionKind
    num_kv_heads: int
    head_dim: int
    window: int | None
    layers: tuple[int, ...]
    v_from_k: bool = False


@dataclass(frozen=True)
class VisionSpec:
    """The image side, as data. `encoder` False is the encoder-free embedder of the 12B."""

    hidden_size: int
    patch_size: int
    pooling_kernel_size: int
    default_output_tokens: int
    encoder: bool = True
    num_layers: int = 0
    num_heads: int = 0
    num_kv_heads: int = 0
    head_dim: int = 0
    intermediate_size: int = 0
    position_embedding_size: int = 0
    rope_theta: float = 100.0
    rms_norm_eps: float = 1e-6
    use_clipped_linears: bool = False
    standardize: bool = False


@dataclass(frozen=True)
class AudioSpec:
    """The sound side, as data. `encoder` False is the 12B, which projects raw 640-sample frames."""

    hidden_size: int
    encoder: bool = True
    num_layers: int = 0
    num_heads: int = 0
    subsampling_conv_channels: tuple[int, ...] = ()
    conv_kernel_size: int = 0
    residual_weight: float = 0.5
    attention_chunk_size: int = 0
    attention_context_left: int = 0
    attention_context_right: int = 0
    attention_logit_cap: float = 0.0
    output_proj_dims: int = 0
    rms_norm_eps: float = 1e-6
    use_clipped_linears: bool = False


@dataclass(frozen=True)
class TokenIds:
    """The ids with a meaning to the engine; `eos` lists every id that ends a turn."""

    bos: int = 2
    pad: int = 0
    eos: tuple[int, ...] = (1, 106, 50)
    suppressed: tuple[int, ...] = ()
    image: int = 258880
    image_begin: int = 255999
    image_end: int = 258882
    audio: int = 258881
    audio_begin: int = 256000
    audio_end: int = 258883
    video: int = 258884


@dataclass(frozen=True)
class ModelSpec:
    """A text decoder and the facts about its other senses.

    `hidden_size_per_layer_input` is the PLE width P (0: none). `size_class` selects the flavour of
    the chat template: "large" models are primed with an empty thought when thinking is off.
    """

    name: str
    hidden_size: int
    vocab_size: int
    layers: tuple[LayerSpec, ...]
    max_position_embeddings: int
    rms_norm_eps: float = 1e-6
    final_logit_softcapping: float | None = 30.0
    hidden_size_per_layer_input: int = 0
    vocab_size_per_layer_input: int = 0
    bidirectional_media: bool = False
    size_class: SizeClass = "small"
    tokens: TokenIds = TokenIds()
    vision: VisionSpec | None = None
    audio: AudioSpec | None = None

    @property
    def num_layers(self) -> int:
        """Number of decoder layers."""
        return len(self.layers)

    @cached_property
    def pools(self) -> tuple[PoolSpec, ...]:
        """The page pools in order of their first layer; every Gemma 4 variant has two."""
        groups: dict[tuple[int, int, int | None], list[LayerSpec]] = {}
        for layer in self.layers:
            a = layer.attention
            if layer.owns_kv:
                groups.setdefault((a.num_kv_heads, a.head_dim, a.window), []).append(layer)
        return tuple(
            PoolSpec(
                kind=group[0].attention.kind,
                num_kv_heads=heads,
                head_dim=dim,
                window=window,
                layers=tuple(layer.index for layer in group),
                v_from_k=all(layer.attention.v_from_k for layer in group),
            )
            for (heads, dim, window), group in groups.items()
        )

    @cached_property
    def pool_of_layer(self) -> tuple[int, ...]:
        """For each layer, the index in `pools` of the pool it reads its K/V from."""
        owner = {index: p for p, pool in enumerate(self.pools) for index in pool.layers}
        return tuple(owner[layer.kv_source if layer.kv_source is not None else -1] for layer in self.layers)

    @cached_property
    def last_kv_layer(self) -> int:
        """Index of the last layer that owns K/V: prompt rows nobody reads logits of stop after it."""
        return max(layer.index for layer in self.layers if layer.owns_kv)

    def last_kv_layer_of(self, kind: AttentionKind) -> int:
        """Index of the last KV-owning layer of `kind`: the one a drafter's layers read."""
        return max(x.index for x in self.layers if x.owns_kv and x.attention.kind == kind)


@dataclass(frozen=True)
class DrafterSpec:
    """A multi-token-prediction drafter: small layers that read the target's K/V and own none.

    `backbone_hidden_size` is the target's hidden size. With `num_centroids` > 0 the head scores the
    `centroid_top_k` best clusters of tokens only (the "ordered embeddings" of E2B and E4B).
    """

    name: str
    hidden_size: int
    backbone_hidden_size: int
    vocab_size: int
    layers: tuple[LayerSpec, ...]
    max_position_embeddings: int
    rms_norm_eps: float = 1e-6
    final_logit_softcapping: float | None = None
    num_centroids: int = 0
    centroid_top_k: int = 0

    @property
    def num_layers(self) -> int:
        """Number of decoder layers."""
        return len(self.layers)
