"""GGUF metadata -> ModelSpec or DrafterSpec; the way back is describe.py.

Takes the key/value pairs and, because GGUF leaves some facts to them, the shapes of the tensors and
the values of rope_freqs.weight. Opens no file. Unknown keys of the architecture, unsupported or
contradictory ones are one ConfigError that lists them all.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gemstead.errors import ConfigError
from gemstead.spec.fields import Fields, Problems, is_integer, is_number, shown
from gemstead.spec.layers import Stack, build_layers, contradictions, rope_pairs
from gemstead.spec.model import AttentionKind, AttentionSpec, DrafterSpec, ModelSpec, MoeSpec, TokenIds

MODEL_ARCHITECTURE = "gemma4"
DRAFTER_ARCHITECTURE = "gemma4-assistant"
MAX_LAYERS = 1024  # far above any Gemma; a larger count is a damaged or hostile file

_DEFAULT_FRACTION = 0.25  # of the pairs of a full layer turn, where no rope_freqs.weight says more
_UNTURNED = 1e20  # a divisor this large in rope_freqs.weight stops a pair; writers use 1e30
_STOP_PIECES = ("<turn|>", "<|tool_response>")  # what ends a model's turn besides the eos token
_OTHER_TOKEN_KEYS = ("bos_token_id", "padding_token_id", "suppress_tokens")
_END_KEYS = tuple(f"tokenizer.ggml.{key}" for key in ("eos_token_id", "eot_token_id", "eos_token_ids"))
_TOKEN_KEYS = (*_END_KEYS, *(f"tokenizer.ggml.{key}" for key in _OTHER_TOKEN_KEYS))
_DEFAULT_CENTROID_TOP_K = 32  # of the released drafters; GGUF has no settled key for it

_KNOWN_KEYS = frozenset(
    (
        "block_count",
        "context_length",
        "embedding_length",
        "embedding_length_out",
        "embedding_length_per_layer_input",
        "feed_forward_length",
        "final_logit_softcapping",
        "vocab_size",
        "expert_count",
        "expert_used_count",
        "expert_feed_forward_length",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.key_length_swa",
        "attention.value_length",
        "attention.value_length_swa",
        "attention.layer_norm_rms_epsilon",
        "attention.shared_kv_layers",
        "attention.sliding_window",
        "attention.sliding_window_pattern",
        "rope.freq_base",
        "rope.freq_base_swa",
        "rope.dimension_count",
        "rope.dimension_count_swa",
        "nextn_predict_layers",
        "masked_embedding.centroid_count",
        "masked_embedding.top_k",
    )
)
_FIXED: Mapping[str, tuple[Any, str]] = {
    "attention.causal": (True, "text attends to its past only"),
    "attention.scale": (1.0, "queries are normalised, so scores are not scaled"),
    "attn_logit_softcapping": (0.0, "attention scores of Gemma 4 are not capped"),
    "rope.scaling.type": ("none", "Gemma 4 states its RoPE in rope.freq_base and rope_freqs.weight"),
    "rope.scaling.factor": (1.0, "Gemma 4 states its RoPE in rope.freq_base and rope_freqs.weight"),
}
_ENCODER_PREFIXES = ("vision.", "audio.", "mm.")  # kept beside the text model by some writers


@dataclass(frozen=True)
class Tensors:
    """What a GGUF says only through its tensors: shapes by name (slowest axis first) and rope_freqs."""

    shapes: Mapping[str, tuple[int, ...]]
    rope_freqs: Sequence[float] | None = None


def model_from_metadata(
    meta: Mapping[str, Any], name: str, vocab_size: int, tensors: Tensors | None = None
) -> ModelSpec:
    """The spec of a model from GGUF metadata; raises ConfigError listing every fault.

    Without `tensors`, full layers are taken to have no V matrix exactly when there are no per-layer
    embeddings (so it is in every release), the per-layer table to be as tall as the vocabulary, and a
    quarter of the pairs of a full layer to turn.
    """
    attempt = f"reading GGUF metadata of {name}"
    fields, problems = _fields(meta, MODEL_ARCHITECTURE, attempt)
    kinds = _layer_kinds(fields)
    width = fields.integer("embedding_length_per_layer_input", 0, minimum=0)
    shared = fields.integer("attention.shared_kv_layers", 0, minimum=0, maximum=len(kinds) - 1)
    attention = _attention(fields, kinds, tensors.rope_freqs if tensors else None)
    if _value_is_key(kinds[: len(kinds) - shared], tensors, problems, default=width == 0):
        attention = {k: _with_value_from_key(a) if k == "full" else a for k, a in attention.items()}
    stack = Stack(
        kinds=kinds,
        attention=attention,
        widths=_by_layer(fields, "feed_forward_length", len(kinds)),
        num_kv_shared_layers=shared,
        moe=_moe(fields),
        per_layer_width=width,
    )
    table = tensors.shapes.get("per_layer_token_embd.weight") if tensors else None
    spec = ModelSpec(
        name=name,
        hidden_size=fields.integer("embedding_length"),
        vocab_size=vocab_size,
        layers=build_layers(stack),
        max_position_embeddings=fields.integer("context_length", 131_072),
        rms_norm_eps=_float32(fields.number("attention.layer_norm_rms_epsilon", 1e-6)),
        final_logit_softcapping=_softcap(fields),
        hidden_size_per_layer_input=width,
        vocab_size_per_layer_input=(table[0] if table else vocab_size) if width else 0,
        bidirectional_media=width == 0,
        size_class="small" if width else "large",
        tokens=_tokens(meta, problems, vocab_size),
    )
    _finish(spec, problems, attempt)
    return spec


def drafter_from_metadata(
    meta: Mapping[str, Any], name: str, vocab_size: int, tensors: Tensors | None = None
) -> DrafterSpec:
    """The spec of a drafter from GGUF metadata; raises ConfigError listing every fault.

    It has a centroid head exactly when the file holds the centroids and the ordering of the tokens
    (most writers leave them out: the dense head gives the same choice almost always).
    """
    attempt = f"reading GGUF metadata of drafter {name}"
    fields, problems = _fields(meta, DRAFTER_ARCHITECTURE, attempt)
    kinds = _layer_kinds(fields)
    shapes = tensors.shapes if tensors else {}
    stack = Stack(
        kinds=kinds,
        attention=_attention(fields, kinds, tensors.rope_freqs if tensors else None),
        widths=_by_layer(fields, "feed_forward_length", len(kinds)),
        num_kv_shared_layers=len(kinds),
        reads_target=True,
    )
    for key in ("embedding_length_per_layer_input", "expert_count"):
        fields.integer(key, 0, minimum=0, maximum=0)
    centroids = shapes.get("masked_embd_centroids.weight")
    ordered = centroids is not None and any(key.startswith("masked_embd_ordering") for key in shapes)
    num_centroids = centroids[0] if centroids is not None and ordered else 0
    top_k = fields.integer("masked_embedding.top_k", min(_DEFAULT_CENTROID_TOP_K, max(num_centroids, 1)))
    spec = DrafterSpec(
        name=name,
        hidden_size=fields.integer("embedding_length"),
        backbone_hidden_size=fields.integer("embedding_length_out"),
        vocab_size=vocab_size,
        layers=build_layers(stack),
        max_position_embeddings=fields.integer("context_length", 131_072),
        rms_norm_eps=_float32(fields.number("attention.layer_norm_rms_epsilon", 1e-6)),
        num_centroids=num_centroids,
        centroid_top_k=top_k if num_centroids else 0,
    )
    _finish(spec, problems, attempt)
    return spec


def _fields(meta: Mapping[str, Any], architecture: str, attempt: str) -> tuple[Fields, Problems]:
    """The keys of the architecture, without its prefix; ConfigError when the file is of another one."""
    found = meta.get("general.architecture")
    if found != architecture:
        advice = "gemstead runs Gemma 4 only"
        if found == "clip":
            advice = "this file holds only the image and sound encoders (mmproj); open the model's own GGUF"
        elif found == DRAFTER_ARCHITECTURE:
            advice = "this is a drafter: open the model it drafts for and pass this path as drafter="
        elif found == MODEL_ARCHITECTURE:
            advice = "this is a model, not a drafter: open it directly"
        raise ConfigError(
            f"{attempt}: general.architecture is {shown(found)}, allowed is {shown(architecture)}; {advice}"
        )
    prefix = f"{architecture}."
    values = {key.removeprefix(prefix): value for key, value in meta.items() if key.startswith(prefix)}
    problems = Problems()
    fields = Fields(values, prefix, problems)
    fields.require(_FIXED)
    encoders = [key for key in values if key.startswith(_ENCODER_PREFIXES)]
    fields.refuse_unknown([*_KNOWN_KEYS, *_FIXED, *encoders])
    return fields, problems


def _finish(spec: ModelSpec | DrafterSpec, problems: Problems, attempt: str) -> None:
    if not problems.unreadable:
        problems.found += contradictions(spec)
    problems.raise_if_any(attempt)


def _layer_kinds(fields: Fields) -> tuple[AttentionKind, ...]:
    """Which layers slide: an array of truths (true = sliding), or n for "every n-th is full"."""
    num_layers = fields.integer("block_count", maximum=MAX_LAYERS)
    key = "attention.sliding_window_pattern"
    stated = _plain(fields.values.get(key))
    if is_integer(stated) and stated > 0:
        return tuple(_kind((i + 1) % stated != 0) for i in range(num_layers))
    if isinstance(stated, list) and len(stated) == num_layers and set(stated) <= {True, False}:
        return tuple(_kind(bool(slides)) for slides in stated)
    seen = f"a list of {len(stated)}" if isinstance(stated, list) else shown(stated)
    fields.problems.add_unreadable(
        f"{fields.label(key)} is {seen}; it must be a list of {num_layers} (block_count) truth values"
    )
    return tuple(_kind(False) for _ in range(num_layers))


def _kind(slides: bool) -> AttentionKind:
    return "sliding" if slides else "full"


def _by_layer(fields: Fields, key: str, num_layers: int) -> list[int]:
    """A value per layer, from an array of one per layer or one number for all."""
    stated = _plain(fields.values.get(key))
    if not isinstance(stated, list):
        return [fields.integer(key)] * num_layers
    if len(stated) != num_layers or not all(is_integer(value) and value > 0 for value in stated):
        fields.problems.add_unreadable(
            f"{fields.label(key)} is {shown(stated)}; it must be one whole number or {num_layers} "
            "(block_count) of them, each at least 1"
        )
        return [1] * num_layers
    return [int(value) for value in stated]


def _attention(
    fields: Fields, kinds: Sequence[AttentionKind], rope_freqs: Sequence[float] | None
) -> dict[AttentionKind, AttentionSpec]:
    heads = _by_layer(fields, "attention.head_count", len(kinds))
    kv_heads = _by_layer(fields, "attention.head_count_kv", len(kinds))
    specs: dict[AttentionKind, AttentionSpec] = {}
    for kind in dict.fromkeys(kinds):
        shapes = {(h, k) for h, k, other in zip(heads, kv_heads, kinds, strict=True) if other == kind}
        if len(shapes) > 1:
            fields.problems.add(
                f"{kind} layers have several (head_count, head_count_kv): {sorted(shapes)}; "
                "all layers of a kind must agree"
            )
        num_heads, num_kv_heads = min(shapes)
        head_dim = _head_dim(fields, kind)
        pairs, factor = head_dim // 2, 1.0
        if kind == "full":
            pairs, factor = _turned_pairs(fields, head_dim, rope_freqs)
        theta_key, theta = ("rope.freq_base_swa", 1e4) if kind == "sliding" else ("rope.freq_base", 1e6)
        specs[kind] = AttentionSpec(
            kind=kind,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            window=fields.integer("attention.sliding_window") if kind == "sliding" else None,
            rope_theta=_float32(fields.number(theta_key, theta)),
            rope_pairs=pairs,
            rope_factor=factor,
        )
    return specs


def _head_dim(fields: Fields, kind: AttentionKind) -> int:
    """head_dim of a kind of layer, checked against the other keys that must say the same."""
    suffix = "_swa" if kind == "sliding" and fields.has("attention.key_length_swa") else ""
    head_dim = fields.integer(f"attention.key_length{suffix}")
    for key in (f"attention.value_length{suffix}", f"rope.dimension_count{suffix}"):
        if fields.has(key) and fields.values[key] != head_dim:
            fields.problems.add(
                f"{fields.label(key)} is {shown(fields.values[key])} but attention.key_length{suffix} "
                f"is {head_dim}; they must agree"
            )
    return head_dim


def _turned_pairs(fields: Fields, head_dim: int, rope_freqs: Sequence[float] | None) -> tuple[int, float]:
    """How many pairs of a full layer turn, and by what factor slower, from rope_freqs.weight."""
    if rope_freqs is None:
        return rope_pairs(head_dim, _DEFAULT_FRACTION), 1.0
    divisors = [float(value) for value in rope_freqs]
    pairs = sum(divisor < _UNTURNED for divisor in divisors)
    turned, still = set(divisors[:pairs]), divisors[pairs:]
    sound = len(turned) <= 1 and all(x > 0 for x in turned) and all(x >= _UNTURNED for x in still)
    if not sound or len(divisors) != head_dim // 2:
        fields.problems.add(
            f"rope_freqs.weight is {shown(divisors)} ({len(divisors)} values); it must be {head_dim // 2} "
            "(half of head_dim): one divisor repeated, then 1e30"
        )
        return 0, 1.0
    return pairs, turned.pop() if turned else 1.0


def _value_is_key(
    owners: Sequence[AttentionKind], tensors: Tensors | None, problems: Problems, default: bool
) -> bool:
    """Whether full layers take V from the raw K projection: they then have no attn_v."""
    full = [i for i, kind in enumerate(owners) if kind == "full"]
    if tensors is None or not full:
        return default
    without = [i for i in full if f"blk.{i}.attn_v.weight" not in tensors.shapes]
    if without and without != full and not problems.unreadable:
        problems.add(
            f"full layers {without} have no attn_v.weight, the other full layers have one; "
            "either all of them have it or none"
        )
    return bool(without)


def _with_value_from_key(a: AttentionSpec) -> AttentionSpec:
    return AttentionSpec(**{**vars(a), "v_from_k": True})


def _moe(fields: Fields) -> MoeSpec | None:
    if not fields.integer("expert_count", 0, minimum=0):
        return None
    return MoeSpec(
        num_experts=fields.integer("expert_count"),
        top_k_experts=fields.integer("expert_used_count"),
        intermediate_size=fields.integer("expert_feed_forward_length"),
    )


def _softcap(fields: Fields) -> float | None:
    # Writers leave the key out, or write 0, for a model whose logits are not capped.
    value = fields.values.get("final_logit_softcapping")
    if value is None or (is_number(value) and value == 0):
        return None
    return _float32(fields.number("final_logit_softcapping"))


def _tokens(meta: Mapping[str, Any], problems: Problems, vocab_size: int) -> TokenIds:
    plain = TokenIds()
    fields = Fields({key: _plain(meta[key]) for key in _TOKEN_KEYS if key in meta}, "", problems)
    ends: dict[int, None] = {}
    for key in _END_KEYS:
        ends.update(dict.fromkeys(fields.token_ids(key) or ()))
    pieces = meta.get("tokenizer.ggml.tokens")
    if isinstance(pieces, Sequence) and not isinstance(pieces, str):  # looked up, never copied: it is long
        ends.update(dict.fromkeys(pieces.index(piece) for piece in _STOP_PIECES if piece in pieces))
    suppressed = fields.token_ids("tokenizer.ggml.suppress_tokens") or ()
    return TokenIds(
        bos=fields.integer("tokenizer.ggml.bos_token_id", plain.bos, minimum=0),
        pad=fields.integer("tokenizer.ggml.padding_token_id", plain.pad, minimum=0),
        eos=tuple(ends) or (1,),
        suppressed=tuple(i for i in suppressed if i < vocab_size),
    )


def _plain(value: Any) -> Any:
    """Arrays of any kind as lists; everything else as it is."""
    if isinstance(value, tuple):
        return list(value)
    return value.tolist() if hasattr(value, "tolist") and hasattr(value, "__len__") else value


def _float32(value: float) -> float:
    """The shortest decimal a float32 stands for: 1e-6, not 9.99999997e-07."""
    if abs(value) > 3e38 or struct.unpack("f", struct.pack("f", value))[0] != value:
        return value
    shortest = (float(f"{value:.{digits}g}") for digits in range(1, 10))
    return next((x for x in shortest if struct.unpack("f", struct.pack("f", x))[0] == value), value)
