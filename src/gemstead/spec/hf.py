"""config.json of Hugging Face transformers -> ModelSpec or DrafterSpec.

Takes parsed JSON, opens no file. Reads every spelling transformers has written for Gemma 4 and gives
each field the meaning its modeling code gives it. Unknown or contradictory fields are one ConfigError
that lists them all; what may be passed over stands in hf_fields.py. Vision and audio: hf_media.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gemstead.errors import ConfigError
from gemstead.spec.fields import Fields, Problems, shown
from gemstead.spec.hf_fields import (
    COMPOSITE_FIELDS,
    DRAFTER_FIELDS,
    FIXED,
    PASSED_OVER,
    TEXT_FIELDS,
    TOKEN_FIELDS,
)
from gemstead.spec.hf_media import read_audio, read_vision
from gemstead.spec.layers import Stack, build_layers, contradictions, pattern, rope_pairs
from gemstead.spec.model import AttentionKind, AttentionSpec, DrafterSpec, ModelSpec, MoeSpec, TokenIds

_COMPOSITE = ("gemma4", "gemma4_unified")
_TEXT_ONLY = ("gemma4_text", "gemma4_unified_text")
_DRAFTER = ("gemma4_assistant", "gemma4_unified_assistant")
MAX_LAYERS = 1024  # far above any Gemma; a larger count is a damaged or hostile file

_KIND_OF: Mapping[str, AttentionKind] = {"sliding_attention": "sliding", "full_attention": "full"}
_DEFAULT_THETA: Mapping[AttentionKind, float] = {"sliding": 10_000.0, "full": 1_000_000.0}
_THETA_KEY: Mapping[AttentionKind, str] = {"sliding": "rope_local_base_freq", "full": "rope_theta"}
_DEFAULT_FRACTION: Mapping[AttentionKind, float] = {"sliding": 1.0, "full": 0.25}


def is_drafter_config(config: Mapping[str, Any]) -> bool:
    """Whether a config.json describes a multi-token-prediction drafter ("assistant")."""
    return config.get("model_type") in _DRAFTER


def model_from_config(
    config: Mapping[str, Any], name: str, generation_config: Mapping[str, Any] | None = None
) -> ModelSpec:
    """The spec of a model from its config.json and, where there is one, its generation_config.json.

    Of the latter only the token ids count: its eos list and suppressed tokens win over config.json.
    Raises ConfigError listing every unknown, unsupported or contradictory field.
    """
    attempt = f"reading config.json of {name}"
    _check_model_type(config, attempt, _COMPOSITE + _TEXT_ONLY)
    problems = Problems()
    top, text = _split(config, problems, attempt)
    generation = Fields(generation_config or {}, "generation_config.", problems)
    spec = _read_model(top, text, generation, name)
    if not problems.unreadable:
        problems.found += contradictions(spec)
    problems.raise_if_any(attempt)
    return spec


def drafter_from_config(config: Mapping[str, Any], name: str) -> DrafterSpec:
    """The spec of a drafter from its config.json; raises ConfigError as model_from_config does."""
    attempt = f"reading config.json of drafter {name}"
    _check_model_type(config, attempt, _DRAFTER)
    problems = Problems()
    top, text = _split(config, problems, attempt)
    spec = _read_drafter(top, text, name)
    if not problems.unreadable:
        problems.found += contradictions(spec)
    problems.raise_if_any(attempt)
    return spec


def _check_model_type(config: Mapping[str, Any], attempt: str, allowed: tuple[str, ...]) -> None:
    found = config.get("model_type") if isinstance(config, Mapping) else None
    if found in allowed:
        return
    advice = "pass the path of a Gemma 4 model"
    if found in _DRAFTER:
        advice = "this is a drafter: open the model it drafts for and pass this path as drafter="
    elif found in _COMPOSITE + _TEXT_ONLY:
        advice = "this is a model, not a drafter: open it directly"
    raise ConfigError(f"{attempt}: model_type is {shown(found)}, allowed are {', '.join(allowed)}; {advice}")


def _split(config: Mapping[str, Any], problems: Problems, attempt: str) -> tuple[Fields, Fields]:
    """The outer fields and the text decoder's, which are the same in a text-only config."""
    top = Fields(config, "", problems)
    if config["model_type"] in _TEXT_ONLY:
        top.refuse_unknown(TEXT_FIELDS | TOKEN_FIELDS | PASSED_OVER | FIXED.keys())
        top.require(FIXED)
        return top, top
    if not top.mapping("text_config"):
        problems.add_unreadable("text_config is missing; it must hold the fields of the text decoder")
        problems.raise_if_any(attempt)
    text = Fields(top.mapping("text_config"), "text_config.", problems)
    outer = COMPOSITE_FIELDS if config["model_type"] in _COMPOSITE else COMPOSITE_FIELDS | DRAFTER_FIELDS
    text.one_of("model_type", _TEXT_ONLY, None)
    text.refuse_unknown(TEXT_FIELDS | TOKEN_FIELDS | PASSED_OVER | FIXED.keys())
    top.refuse_unknown(outer | TEXT_FIELDS | TOKEN_FIELDS | PASSED_OVER | FIXED.keys())
    top.require(FIXED)
    # transformers ties by the outer flag and never reads the inner one.
    text.require({key: only for key, only in FIXED.items() if key != "tie_word_embeddings"})
    for key in sorted(TEXT_FIELDS - {"model_type"} & config.keys()):
        if top.has(key) and top.values[key] != text.values.get(key):
            seen, inner = shown(top.values[key]), shown(text.values.get(key))
            problems.add(f"{key} is {seen} but text_config.{key} is {inner}; they must agree")
    return top, text


def _read_model(top: Fields, text: Fields, generation: Fields, name: str) -> ModelSpec:
    unified = "unified" in str(top.values["model_type"])
    kinds = _layer_kinds(text)
    owners = len(kinds) - text.integer("num_kv_shared_layers", 0, minimum=0, maximum=max(len(kinds) - 1, 0))
    width = text.integer("intermediate_size")
    shared_width = width * (2 if text.flag("use_double_wide_mlp", False) else 1)
    per_layer_width = text.integer("hidden_size_per_layer_input", 0 if unified else 256, minimum=0)
    stack = Stack(
        kinds=kinds,
        attention=_attention(text, kinds, 1024 if unified else 512),
        widths=[width if i < owners else shared_width for i in range(len(kinds))],
        num_kv_shared_layers=len(kinds) - owners,
        moe=_moe(text),
        per_layer_width=per_layer_width,
    )
    vocab_size = text.integer("vocab_size")
    per_layer_vocab = text.integer("vocab_size_per_layer_input", 262_144, minimum=0)
    bidirectional = text.one_of("use_bidirectional_attention", ("vision",), None)
    if unified and "use_bidirectional_attention" not in text.values:
        bidirectional = "vision"
    return ModelSpec(
        name=name,
        hidden_size=text.integer("hidden_size"),
        vocab_size=vocab_size,
        layers=build_layers(stack),
        max_position_embeddings=text.integer("max_position_embeddings", 262_144 if unified else 131_072),
        rms_norm_eps=text.number("rms_norm_eps", 1e-6),
        final_logit_softcapping=_softcap(text),
        hidden_size_per_layer_input=per_layer_width,
        vocab_size_per_layer_input=per_layer_vocab if per_layer_width else 0,
        bidirectional_media=bidirectional == "vision",
        size_class="small" if per_layer_width else "large",
        tokens=_tokens(top, text, generation, vocab_size),
        vision=read_vision(top),
        audio=read_audio(top),
    )


def _read_drafter(top: Fields, text: Fields, name: str) -> DrafterSpec:
    kinds = _layer_kinds(text)
    stated = text.integer("num_kv_shared_layers", 0, minimum=0)
    if stated not in (0, len(kinds)):
        text.problems.add(
            f"text_config.num_kv_shared_layers is {stated}; allowed is {len(kinds)} (every layer of a "
            "drafter reads the K/V of its target)"
        )
    for key in ("hidden_size_per_layer_input", "enable_moe_block", "use_double_wide_mlp"):
        if text.values.get(key):
            text.problems.add(f"text_config.{key} is {shown(text.values[key])}; a drafter has none")
    ordered = top.flag("use_ordered_embeddings", False)
    stack = Stack(
        kinds=kinds,
        attention=_attention(text, kinds, 512, v_from_k=False),
        widths=[text.integer("intermediate_size")] * len(kinds),
        num_kv_shared_layers=len(kinds),
        reads_target=True,
    )
    return DrafterSpec(
        name=name,
        hidden_size=text.integer("hidden_size"),
        backbone_hidden_size=top.integer("backbone_hidden_size"),
        vocab_size=text.integer("vocab_size"),
        layers=build_layers(stack),
        max_position_embeddings=text.integer("max_position_embeddings", 131_072),
        rms_norm_eps=text.number("rms_norm_eps", 1e-6),
        # transformers never caps a drafter's logits, whatever its text_config says.
        final_logit_softcapping=None,
        num_centroids=top.integer("num_centroids", 2048) if ordered else 0,
        centroid_top_k=top.integer("centroid_intermediate_top_k", 32) if ordered else 0,
    )


def _layer_kinds(text: Fields) -> tuple[AttentionKind, ...]:
    num_layers = text.integer("num_hidden_layers", maximum=MAX_LAYERS)
    stated = text.values.get("layer_types")
    default = pattern(num_layers, 6)
    if stated is None:
        return default
    if not isinstance(stated, list | tuple):
        text.problems.add_unreadable(f"{text.label('layer_types')} is {shown(stated)}; it must be a list")
        return default
    unknown = sorted({shown(kind) for kind in stated if kind not in tuple(_KIND_OF)})
    if unknown:
        text.problems.add_unreadable(
            f"{text.label('layer_types')} holds {', '.join(unknown)}; allowed are {' and '.join(_KIND_OF)}"
        )
        return default
    if len(stated) != num_layers:
        text.problems.add_unreadable(
            f"{text.label('layer_types')} lists {len(stated)} layers but num_hidden_layers is {num_layers}"
        )
        return default
    return tuple(_KIND_OF[kind] for kind in stated)


def _attention(
    text: Fields, kinds: tuple[AttentionKind, ...], default_window: int, v_from_k: bool | None = None
) -> dict[AttentionKind, AttentionSpec]:
    num_heads = text.integer("num_attention_heads")
    window = text.integer("sliding_window", default_window) if "sliding" in kinds else None
    keys_are_values = text.flag("attention_k_eq_v", False) if v_from_k is None else v_from_k
    specs: dict[AttentionKind, AttentionSpec] = {}
    for kind, (num_kv_heads, head_dim) in _kv_shapes(text, kinds).items():
        theta, pairs, factor = _rope(text, kind, head_dim)
        specs[kind] = AttentionSpec(
            kind=kind,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            window=window if kind == "sliding" else None,
            rope_theta=theta,
            rope_pairs=pairs,
            rope_factor=factor,
            v_from_k=keys_are_values and kind == "full",
        )
    return specs


def _kv_shapes(text: Fields, kinds: tuple[AttentionKind, ...]) -> dict[AttentionKind, tuple[int, int]]:
    """(num_kv_heads, head_dim) of each kind of layer, from either spelling."""
    base = (text.integer("num_key_value_heads"), text.integer("head_dim", 256))
    if text.values.get("per_layer_config") is not None:
        return _kv_shapes_by_layer(text, kinds, base)
    full_heads, full_dim = base
    if "global_head_dim" not in text.values:
        full_dim = 512  # what transformers assumes
    elif text.has("global_head_dim"):
        full_dim = text.integer("global_head_dim")
    # transformers lets the override of the heads count only where K is also V
    if text.flag("attention_k_eq_v", False):
        full_heads = text.integer("num_global_key_value_heads", full_heads)
    shapes: dict[AttentionKind, tuple[int, int]] = {"sliding": base, "full": (full_heads, full_dim)}
    return {kind: shape for kind, shape in shapes.items() if kind in kinds}


def _kv_shapes_by_layer(
    text: Fields, kinds: tuple[AttentionKind, ...], base: tuple[int, int]
) -> dict[AttentionKind, tuple[int, int]]:
    overrides = _layer_overrides(text, len(kinds))
    shapes: dict[AttentionKind, tuple[int, int]] = {}
    for i, kind in enumerate(kinds):
        fields = overrides.get(i)
        shape = base
        if fields is not None:
            shape = (fields.integer("num_key_value_heads", base[0]), fields.integer("head_dim", base[1]))
        if shapes.setdefault(kind, shape) != shape:
            text.problems.add(
                f"per_layer_config gives {kind} layer {i} (num_key_value_heads, head_dim) = {shape}, others "
                f"have {shapes[kind]}; all layers of a kind must agree"
            )
    if "full" in shapes:
        heads, head_dim = shapes["full"]
        _require_same(text, "global_head_dim", head_dim, "head_dim of full layers in per_layer_config")
        other = "num_key_value_heads of full layers in per_layer_config"
        _require_same(text, "num_global_key_value_heads", heads, other)
    return shapes


def _require_same(text: Fields, key: str, value: float, other: str) -> None:
    """Note a field that is present and says something else than the newer spelling."""
    if text.has(key) and text.values[key] != value:
        text.problems.add(
            f"{text.label(key)} is {shown(text.values[key])} but {other} is {value}; they must agree"
        )


def _layer_overrides(text: Fields, num_layers: int) -> dict[int, Fields]:
    found: dict[int, Fields] = {}
    for key, values in text.mapping("per_layer_config").items():
        where = text.label(f"per_layer_config[{key}].")
        index = int(key) if str(key).isdecimal() and len(str(key)) < 9 else -1
        if not 0 <= index < num_layers:
            text.problems.add(f"{where[:-1]}: the key must be a layer index from 0 to {num_layers - 1}")
        elif not isinstance(values, Mapping):
            text.problems.add(f"{where[:-1]} is {shown(values)}; it must be a mapping")
        elif index in found:
            text.problems.add(f"{where[:-1]}: layer {index} is there twice, under another spelling")
        else:
            found[index] = Fields(values, where, text.problems)
            same = {k for k, v in values.items() if text.values.get(k) == v or (k == "skip" and not v)}
            found[index].refuse_unknown({"head_dim", "num_key_value_heads"} | same)
    return found


def _rope(text: Fields, kind: AttentionKind, head_dim: int) -> tuple[float, int, float]:
    """(theta, rotated pairs, factor) of one kind of layer."""
    stated = text.mapping("rope_parameters")
    if not stated:
        theta = text.number(_THETA_KEY[kind], _DEFAULT_THETA[kind])
        fraction = _DEFAULT_FRACTION[kind]
        if kind == "full":
            fraction = text.number("partial_rotary_factor", fraction)
        return theta, rope_pairs(head_dim, fraction), 1.0
    name = f"{kind}_attention"
    if not isinstance(stated.get(name), Mapping):
        text.problems.add_unreadable(
            f"{text.label('rope_parameters')} has no {name}; it must hold the RoPE of each kind of layer"
        )
        return _DEFAULT_THETA[kind], 0, 1.0
    fields = Fields(stated[name], text.label(f"rope_parameters.{name}."), text.problems)
    fields.refuse_unknown(("rope_type", "type", "rope_theta", "partial_rotary_factor", "factor"))
    rope_type_key = "rope_type" if fields.has("rope_type") else "type"
    # Without a type transformers turns every pair, which for a full layer contradicts its fraction.
    rope_type = fields.one_of(rope_type_key, ("default", "proportional"), "default")
    theta = fields.number("rope_theta")
    _require_same(text, _THETA_KEY[kind], theta, f"{fields.where}rope_theta")
    if rope_type == "default":
        reason = "rope_type default turns every pair at its plain frequency; use rope_type proportional"
        fields.require({"partial_rotary_factor": (1.0, reason), "factor": (1.0, reason)})
        return theta, head_dim // 2, 1.0
    fraction = fields.number("partial_rotary_factor", 1.0, positive=False)
    if kind == "full":
        _require_same(text, "partial_rotary_factor", fraction, f"{fields.where}partial_rotary_factor")
    return theta, rope_pairs(head_dim, fraction), fields.number("factor", 1.0)


def _moe(text: Fields) -> MoeSpec | None:
    if not text.flag("enable_moe_block", False):
        return None
    spellings = [key for key in ("moe_intermediate_size", "expert_intermediate_size") if text.has(key)]
    if any(text.values[key] != text.values[spellings[0]] for key in spellings):
        seen = " and ".join(f"{key} {shown(text.values[key])}" for key in spellings)
        text.problems.add(f"{seen} name the same width; they must agree")
    return MoeSpec(
        num_experts=text.integer("num_experts"),
        top_k_experts=text.integer("top_k_experts"),
        intermediate_size=text.integer(spellings[0] if spellings else "moe_intermediate_size"),
    )


def _softcap(text: Fields) -> float | None:
    return text.number("final_logit_softcapping") if text.has("final_logit_softcapping") else None


def _tokens(top: Fields, text: Fields, generation: Fields, vocab_size: int) -> TokenIds:
    def first(key: str) -> tuple[int, ...] | None:
        found = (fields.token_ids(key) for fields in (generation, top, text) if fields.has(key))
        return next(found, None)

    def one(key: str, default: int) -> int:
        ids = first(key)
        return ids[0] if ids else default

    plain = TokenIds()
    if top.has("eoa_token_id") and top.has("eoa_token_index"):
        top.require({"eoa_token_id": (top.values["eoa_token_index"], "eoa_token_index says so")})
    suppressed = first("suppress_tokens") or ()
    ends = first("eos_token_id")
    if ends is None:  # absent: transformers' default; null: no token ends a turn
        ends = () if any("eos_token_id" in fields.values for fields in (top, text)) else (1,)
    return TokenIds(
        bos=one("bos_token_id", plain.bos),
        pad=one("pad_token_id", plain.pad),
        eos=ends,
        suppressed=tuple(i for i in suppressed if i < vocab_size),
        image=one("image_token_id", plain.image),
        image_begin=one("boi_token_id", plain.image_begin),
        image_end=one("eoi_token_id", plain.image_end),
        audio=one("audio_token_id", plain.audio),
        audio_begin=one("boa_token_id", plain.audio_begin),
        audio_end=one("eoa_token_index" if top.has("eoa_token_index") else "eoa_token_id", plain.audio_end),
        video=one("video_token_id", plain.video),
    )
