"""From the few facts a file states about a Gemma 4 decoder to its flat tuple of layers, and back to doubt.

`build_layers` never fails: it writes down what was said. `contradictions` then lists everything in a
finished spec that cannot be run, in the words of config.json. Used by variants.py, hf.py and gguf.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gemstead.spec.model import AttentionKind, AttentionSpec, DrafterSpec, LayerSpec, ModelSpec, MoeSpec


@dataclass(frozen=True)
class Stack:
    """What the layers of one decoder have in common.

    The last `num_kv_shared_layers` layers own no K/V: each reads the last earlier owner of its kind.
    `widths` is the MLP width of every layer. In a drafter (`reads_target`) no layer owns K/V.
    """

    kinds: Sequence[AttentionKind]
    attention: Mapping[AttentionKind, AttentionSpec]
    widths: Sequence[int]
    num_kv_shared_layers: int = 0
    moe: MoeSpec | None = None
    per_layer_width: int = 0
    reads_target: bool = False


def pattern(num_layers: int, period: int) -> tuple[AttentionKind, ...]:
    """Every period-th layer full, the others sliding; the last layer is always full."""
    return tuple(
        "full" if (i + 1) % period == 0 or i == num_layers - 1 else "sliding" for i in range(num_layers)
    )


def rope_pairs(head_dim: int, partial_rotary_factor: float) -> int:
    """How many of the head_dim/2 pairs p-RoPE turns (rounded down, as transformers does)."""
    return int(partial_rotary_factor * head_dim // 2)


def build_layers(stack: Stack) -> tuple[LayerSpec, ...]:
    """The layers a stack describes; a sharing layer that finds no source gets `kv_source` None."""
    first_shared = len(stack.kinds) - stack.num_kv_shared_layers
    source = {kind: i for i, kind in enumerate(stack.kinds) if i < first_shared}
    return tuple(
        LayerSpec(
            index=i,
            attention=stack.attention[kind],
            kv_source=None if stack.reads_target else i if i < first_shared else source.get(kind),
            intermediate_size=stack.widths[i],
            moe=stack.moe,
            per_layer_width=stack.per_layer_width,
        )
        for i, kind in enumerate(stack.kinds)
    )


def contradictions(spec: ModelSpec | DrafterSpec) -> list[str]:
    """Everything in `spec` that no forward could run; empty for a sound one."""
    found: dict[str, None] = {}
    for layer in spec.layers:
        found.update(dict.fromkeys(_attention_problems(layer.attention)))
        if layer.moe is not None:
            found.update(dict.fromkeys(_moe_problems(layer.moe)))
    found.update(dict.fromkeys(_stack_problems(spec)))
    return list(found)


def _attention_problems(a: AttentionSpec) -> Iterator[str]:
    if a.num_heads % a.num_kv_heads:
        yield (
            f"{a.kind} layers: num_attention_heads {a.num_heads} is not divisible "
            f"by num_key_value_heads {a.num_kv_heads}"
        )
    if a.head_dim % 2:
        yield f"{a.kind} layers: head_dim {a.head_dim} is odd; RoPE turns pairs of values"
    if not 0 <= a.rope_pairs <= a.head_dim // 2:
        yield (
            f"{a.kind} layers: RoPE would turn {a.rope_pairs} pairs of values, "
            f"allowed are 0 to {a.head_dim // 2} (half of head_dim {a.head_dim})"
        )


def _moe_problems(moe: MoeSpec) -> Iterator[str]:
    if moe.top_k_experts > moe.num_experts:
        yield f"top_k_experts {moe.top_k_experts} is more than num_experts {moe.num_experts}"


def _stack_problems(spec: ModelSpec | DrafterSpec) -> Iterator[str]:
    if spec.layers and spec.layers[-1].attention.kind != "full":
        yield "layer_types: the last layer is sliding_attention; in Gemma 4 it is always full_attention"
    if isinstance(spec, DrafterSpec):
        yield from _centroid_problems(spec)
        return
    for layer in spec.layers:
        if layer.kv_source is None:
            yield (
                f"layer {layer.index} ({layer.attention.kind}) shares K/V, but no {layer.attention.kind} "
                "layer before the shared ones owns any; lower num_kv_shared_layers or mend layer_types"
            )
    if spec.hidden_size_per_layer_input and spec.vocab_size_per_layer_input < spec.vocab_size:
        yield (
            f"vocab_size_per_layer_input {spec.vocab_size_per_layer_input} is less than vocab_size "
            f"{spec.vocab_size}: some tokens would have no per-layer embedding"
        )


def _centroid_problems(spec: DrafterSpec) -> Iterator[str]:
    if spec.num_centroids and spec.vocab_size % spec.num_centroids:
        yield f"num_centroids {spec.num_centroids} does not divide vocab_size {spec.vocab_size}"
    if spec.centroid_top_k > spec.num_centroids:
        yield (
            f"centroid_intermediate_top_k {spec.centroid_top_k} is more than "
            f"num_centroids {spec.num_centroids}"
        )


def drafter_mismatches(target: ModelSpec, drafter: DrafterSpec) -> list[str]:
    """Why `drafter` cannot draft for `target`, in words about "it"; empty when it can."""
    found: dict[str, None] = {}
    if drafter.backbone_hidden_size != target.hidden_size:
        found[f"it reads hidden states of {drafter.backbone_hidden_size}, not {target.hidden_size}"] = None
    if drafter.vocab_size != target.vocab_size:
        found[f"it has {drafter.vocab_size} tokens, not {target.vocab_size}"] = None
    owners = {layer.attention.kind: layer.attention for layer in target.layers if layer.owns_kv}
    for layer in drafter.layers:
        a, b = layer.attention, owners.get(layer.attention.kind)
        if b is None:
            found[f"it reads {a.kind} layers, which the target has not"] = None
        elif (a.num_kv_heads, a.head_dim) != (b.num_kv_heads, b.head_dim):
            found[
                f"its {a.kind} layers read {a.num_kv_heads} KV heads of {a.head_dim}, "
                f"the target keeps {b.num_kv_heads} of {b.head_dim}"
            ] = None
    return list(found)
