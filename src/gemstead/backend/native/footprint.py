"""What the native engine will hold for a model, told before there is one: for machine/plan.py.

The same arithmetic as opening and running it: packing.py's sizes, the pools' K/V, and for the memory of a
forward the sizes that native/src asks of its scratch (a test holds both against each other, byte for byte).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gemstead.backend.native.packing import is_packed, packed_bytes
from gemstead.backend.native.weights import matrices_of
from gemstead.spec.model import DrafterSpec, LayerSpec, ModelSpec
from gemstead.spec.tensors import drafter_tensors, text_tensors
from gemstead.weights.formats import get

# native/src/attention.cpp: positions of a split, query rows of a tile, keys at a time, and in float32.
_SPLIT, _TILE_ROWS, _KEYS, _EXPANDED, _GAP = 512, 32, 64, 8, 16
_PICKS_AT_ONCE = 256  # native/src/feed_forward.cpp
_FLOAT = 4


@dataclass(frozen=True, slots=True)
class HeldWeights:
    """Bytes of weights: `packed` rearranged (kept in a file of their own where there is room for it),
    `plain` read as they lie in the model's file, and tables of which only the rows asked for are read."""

    packed: int
    plain: int
    tables: tuple[Table, ...]

    @property
    def resident(self) -> int:
        """What every forward may touch."""
        return self.packed + self.plain


@dataclass(frozen=True, slots=True)
class Table:
    """A matrix of `rows` rows, looked up a row a token."""

    rows: int
    row_bytes: int


def held_weights(spec: ModelSpec | DrafterSpec, formats: Mapping[str, str]) -> HeldWeights:
    """What a model holds whose tensors have these formats, by canonical name."""
    tensors = text_tensors(spec) if isinstance(spec, ModelSpec) else drafter_tensors(spec)
    multiplied = set(matrices_of(spec))
    packed = plain = 0
    tables = []
    for tensor in tensors:
        name, fmt = formats[tensor.name], get(formats[tensor.name])
        in_file = fmt.nbytes(tensor.shape)
        if len(tensor.shape) > 1 and tensor.name in multiplied:
            if is_packed(name):
                packed += packed_bytes(name, tensor.shape)
            else:
                plain += in_file
        elif len(tensor.shape) == 1:
            plain += in_file + _FLOAT * tensor.shape[0]  # and a copy in float32
        if tensor.name in _LOOKED_UP and not (tensor.name in multiplied and not is_packed(name)):
            tables.append(Table(tensor.shape[0], fmt.row_bytes(tensor.shape[-1])))
    return HeldWeights(packed, plain, tuple(tables))


_LOOKED_UP = ("embed_tokens", "embed_tokens_per_layer")


def angle_bytes(spec: ModelSpec, context_tokens: int) -> int:
    """Cosines and sines of every position, where keys are made from values (native/src/kv.cpp, reach)."""
    pairs = {
        layer.attention: layer.attention.rope_pairs
        for layer in spec.layers
        if layer.owns_kv and layer.attention.v_from_k
    }
    chunks = -(-context_tokens // _SPLIT)
    return sum(2 * _FLOAT * _SPLIT * chunks * count for count in pairs.values())


@dataclass(frozen=True, slots=True)
class Work:
    """The largest forwards that are to come: a chunk of a prompt, and the steps of all sequences together.

    rows: of one chunk; logit_rows: of it that get logits; sequences, each after context_tokens tokens.
    """

    rows: int
    logit_rows: int
    sequences: int
    context_tokens: int
    threads: int


def work_bytes(spec: ModelSpec, formats: Mapping[str, str], work: Work) -> int:
    """What a model holds between its layers after these forwards: gs_work_bytes. For models with experts an
    upper bound, because how many rows meet in one expert is theirs to decide."""
    rows = [work.rows if x.index < spec.last_kv_layer else work.logit_rows for x in spec.layers]
    rows = [max(count, work.sequences) for count in rows]
    most = max(work.rows, work.sequences)
    width, outputs = spec.hidden_size, max(work.logit_rows, work.sequences)
    floats = 2 * most * width  # x, h
    floats += outputs * width  # kept
    floats += max(rows) * width  # y
    met = [_met(x, n) for n, x in zip(rows, spec.layers, strict=True)]
    heads = max(n * _heads(x) for n, x in zip(rows, spec.layers, strict=True))
    floats += max(heads, *(n * width for n in met)) + heads  # q, blended
    floats += 2 * most * max(p.num_kv_heads * p.head_dim for p in spec.pools)  # k, v
    wide = max(n * x.intermediate_size for n, x in zip(rows, spec.layers, strict=True))
    expert = max(n * _expert_size(x) for n, x in zip(met, spec.layers, strict=True))
    floats += max(wide, expert, max(rows) * spec.hidden_size_per_layer_input)  # gate
    floats += max(wide, 2 * expert)  # up
    floats += _per_layer_floats(spec, formats, most, outputs)
    floats += _expert_floats(spec, max(rows))
    floats += max(_attention_floats(x, work, n) for n, x in zip(rows, spec.layers, strict=True))
    return _FLOAT * floats + _input_bytes(spec, formats, most, rows)


def _heads(layer: LayerSpec) -> int:
    return layer.attention.num_heads * layer.attention.head_dim


def _per_layer_floats(spec: ModelSpec, formats: Mapping[str, str], rows: int, outputs: int) -> int:
    """context (the projected inputs) and table (the tokens' own, in whole blocks)."""
    width = spec.hidden_size_per_layer_input
    if not width:
        return 0
    block = get(formats["embed_tokens_per_layer"]).block
    before = spec.last_kv_layer * width
    after = spec.num_layers * width - before
    read_before = -(-before // block) * block
    read_after = -(-(before + after) // block) * block - before // block * block
    return max(rows * before, outputs * after) + max(rows * read_before, outputs * read_after)


def _expert_size(layer: LayerSpec) -> int:
    return layer.moe.intermediate_size if layer.moe else 0


def _met(layer: LayerSpec, rows: int) -> int:
    """Rows of experts at work together, at most (native/src/feed_forward.cpp, kPicksAtOnce)."""
    return min(rows * layer.moe.top_k_experts, max(rows, _PICKS_AT_ONCE)) if layer.moe else 0


def _expert_floats(spec: ModelSpec, rows: int) -> int:
    """routed and answers."""
    experts = max((x.moe.num_experts for x in spec.layers if x.moe), default=0)
    return rows * (experts + spec.hidden_size) if experts else 0


def _attention_floats(layer: LayerSpec, work: Work, rows: int) -> int:
    """partials: a thread's own, and one for every split where tiles are few."""
    a = layer.attention
    group = a.num_heads // a.num_kv_heads
    most = max(_TILE_ROWS, group)
    partial = most * (a.head_dim + 2)
    own = most * (a.head_dim + _KEYS) + _EXPANDED * (a.head_dim + _GAP) + 2 * partial
    found = work.threads * own
    few = 4 * work.threads
    tokens = max(1, _TILE_ROWS // group)
    shapes = [(work.sequences, 1, work.context_tokens)]  # (sequences, rows of each, the last position + 1)
    shapes.append((1, min(rows, max(1, (few - 1) // a.num_kv_heads) * tokens), work.context_tokens))
    for sequences, count, end in shapes:
        tiles = sequences * -(-count // tokens) * a.num_kv_heads
        if tiles < few:
            seen = end if a.window is None else min(end, a.window + count - 1)
            splits = min(-(-seen // _SPLIT) + (a.window is not None), -(-end // _SPLIT))
            found = max(found, work.threads * own + tiles * splits * partial)
    return found


def _input_bytes(spec: ModelSpec, formats: Mapping[str, str], most: int, rows: list[int]) -> int:
    """Rows in int8 with their scales and sums (native/src/linear.h, Input), where matrices are packed."""

    def quantized(name: str) -> bool:
        return name in formats and is_packed(formats[name])

    def size(values: int) -> int:
        return values + values // 32 * (3 * _FLOAT + 2 * _FLOAT)  # scale, sum, eight; halves

    hidden = attention = inner = expert = gathered = 0
    for n, layer in zip(rows, spec.layers, strict=True):
        at = f"layers.{layer.index}."
        if quantized(at + "self_attn.q_proj"):
            hidden = max(hidden, n * spec.hidden_size)
        if layer.owns_kv and quantized(at + "self_attn.k_proj"):
            hidden = max(hidden, most * spec.hidden_size)
        if quantized(at + "self_attn.o_proj"):
            attention = max(attention, n * _heads(layer))
        if quantized(at + "mlp.down_proj"):
            inner = max(inner, n * layer.intermediate_size)
        if layer.per_layer_width and quantized(at + "per_layer_projection"):
            inner = max(inner, n * layer.per_layer_width)
        met = _met(layer, n)
        if quantized(at + "experts.gate_up_proj"):
            expert = max(expert, met * spec.hidden_size)
        else:
            gathered = max(gathered, met * spec.hidden_size)
        if quantized(at + "experts.down_proj"):
            inner = max(inner, met * _expert_size(layer))
    if spec.hidden_size_per_layer_input and quantized("per_layer_model_projection"):
        inner = max(inner, most * spec.hidden_size)
    return sum(map(size, (hidden, attention, inner, expert))) + _FLOAT * gathered
